"""Channels: many requests at a time over one stream, in both directions, with limits, flow control and signs of life."""
