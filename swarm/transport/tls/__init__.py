"""The network of real machines: TCP with TLS 1.3, from the first packet until both ends have proved their keys."""
