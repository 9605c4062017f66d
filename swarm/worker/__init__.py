"""The worker's half of a session: slots, leases, batching, answers, announcements."""
