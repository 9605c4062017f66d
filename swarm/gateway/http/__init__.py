"""What the gateway needs of HTTP: a server, bodies, keys, origins, refusals with a status, and events."""
