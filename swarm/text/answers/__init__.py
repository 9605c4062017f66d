"""What an answer holds besides text: calls of tools and reasoning, in the formats of model families."""
