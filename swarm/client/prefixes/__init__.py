"""Sessions that begin with the rows of others: what of a prompt was computed before is not computed again."""
