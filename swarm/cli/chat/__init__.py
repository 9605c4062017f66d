"""The chat on a terminal: what is said, what is set, what is shown, which keys do what, and which swarm answers."""
