"""`swarm top`: who was seen doing what, how workers are asked, how it looks from one second to the next."""
