"""Processes that mean harm to workers, and clients that vanish."""
