"""`swarm client`: the client that the options mean, what is asked of it, and how answers are written."""
