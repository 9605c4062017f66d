"""The benchmark that users run: `swarm bench` measures this machine and prints; it judges nothing and needs no checkpoint."""
