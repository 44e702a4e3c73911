"""Which rule a request belongs to: patterns, the index over them, and what can be said about a table before it is used."""
