"""ASGI applications of the benchmark, one module each, so that a server loads nothing that its target does not need."""
