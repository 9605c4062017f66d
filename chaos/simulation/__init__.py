"""A whole swarm in one process, in virtual time: what a seed does to it, it does again."""
