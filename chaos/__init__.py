"""Fault injection: breaks a swarm in every way there is, and checks that its promises hold all the same.

`chaos.simulation` does it in one process, in virtual time, from a seed. Nothing in `swarm/` knows of it.
"""
