"""What one needs to run a rendezvous point for others: an entry, a service unit, a container file, a page, the public list."""
