"""Other programs beside ours, in turns on the same machine: what they are told, and what they print."""
