"""One way to generate for every API: a request made plain, its choices, and what each of them tells."""
