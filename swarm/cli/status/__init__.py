"""`swarm status`: what the directory holds, who answers, which layers are served, and the picture of it."""
