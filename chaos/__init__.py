"""Breaks swarms on purpose and checks what they promise meanwhile: `python -m chaos`."""
