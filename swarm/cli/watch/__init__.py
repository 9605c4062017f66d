"""The parts of `swarm top`: who was seen doing what, how they are asked, how it looks."""
