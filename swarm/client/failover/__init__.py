"""When a hop must be left: it is slow, or silent; and how a replacement is brought level."""
