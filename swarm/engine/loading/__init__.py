"""From stored tensors to layers."""
