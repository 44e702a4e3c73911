"""What the upstream and the bare apps answer, and what the load generator asks for: the same request for every target."""

from __future__ import annotations

import os

SMALL = b'{"id":42,"name":"a small answer","tags":["json","90 bytes"],"sum":12345.5,"status":"paid"}'
LARGE = b"0123456789abcdef" * 4096
BODIES = {"small": SMALL, "64k": LARGE}
"""What a body is called in options and tables, and its bytes."""
TYPES = {"small": "application/json", "64k": "application/octet-stream"}
PATHS = {"small": "/v1/service-500/items/42", "64k": "/v1/service-500/items/64k"}
"""Both match one route with a parameter in the middle of the table of a thousand."""
KEY_HEADER = "x-api-key"
KEY = "an-example-of-a-key-never-use-it"
UPSTREAM_VARIABLE = "GATEKIT_BENCH_UPSTREAM"


def upstream() -> str:
    """The URL that a proxy under test forwards to, without a path."""
    return os.environ[UPSTREAM_VARIABLE]
