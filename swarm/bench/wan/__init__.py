"""`swarm bench --wan`: chains whose machines are far from each other, against what distance alone allows."""
