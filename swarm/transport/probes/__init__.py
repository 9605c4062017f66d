"""Round-trip probes over UDP: how near a peer is, told without a handshake."""
