"""What the gateways of these drills serve: one `Authn` before one upstream, as the variable `GATE` says, in JSON."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Callable
from typing import Any

from gatekit import Authn, Cluster, Gateway, Route, introspection, jwt

if os.environ.get("GATEKIT_DIES_WITH_PARENT"):
    # Servers start workers of their own; no worker may outlive the process that started it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

ASKED = json.loads(os.environ["GATE"])
METHODS: dict[str, Callable[..., Any]] = {"jwt": jwt, "introspection": introspection}

gateway = Gateway(
    policies=[
        Authn(
            *(METHODS[name](**given) for name, given in ASKED["methods"].items()),
            identity_headers={"x-user-id": "subject", "x-scopes": "scopes"},
            revocations=ASKED["revocations"],
        )
    ],
    routes=[Route("/*", to="up")],
    clusters={"up": Cluster(ASKED["upstream"])},
)
