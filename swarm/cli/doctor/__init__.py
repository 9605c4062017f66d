"""`swarm doctor`: what is wrong with this machine as a node, and why workers of a model are in no chain."""
