"""The parts of the chat on a terminal: what is said, what is set, what is shown, and which keys do what."""
