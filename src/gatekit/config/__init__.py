"""Configuration: what was asked for (model), what was said where (documents), and what it is compiled to (snapshot)."""
