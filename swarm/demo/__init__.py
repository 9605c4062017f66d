"""The demo model that comes with the package, the program that trains it, and the showcase of `swarm demo`."""
