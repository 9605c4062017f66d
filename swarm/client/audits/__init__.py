"""Is a worker lying? The same rows computed by another, proofs of what was signed, and bans."""
