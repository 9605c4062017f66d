"""One hop of a session: what it is asked, what it was given and answered, and what it signed of that."""
