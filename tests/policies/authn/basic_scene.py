"""What the tests of HTTP Basic share: users, and a policy whose work is counted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import sys
from typing import Any

import pytest

from gatekit.core.identity import Identity
from gatekit.core.ports import Cells
from gatekit.core.verdict import Reply
from gatekit.policies.authn.basic import Basic, BasicUser, BoundBasic, basic, hash_password
from gatekit.testing import ManualClock, SeededRandom, request, test_ports

MODULE = sys.modules[Basic.__module__]
"""The module itself: the package has a function of its name."""

RANDOM = SeededRandom(6)
CHEAP: dict[str, int] = {"n": 2**10, "r": 8, "p": 1}
PASSWORD, OTHER = "correct horse: battery", "hunter2"
ANN = hash_password(PASSWORD, RANDOM.token, **CHEAP)
BOB = hash_password(OTHER, RANDOM.token, **CHEAP)
USERS: dict[str, BasicUser | str] = {
    "ann": BasicUser(ANN, subject="svc-ann", tenant="acme", scopes=["a"], roles=["r"]),
    "bob": BOB,
}
CHALLENGE = [(b"www-authenticate", b'Basic realm="gateway", charset="UTF-8"')]


def sent(name: str, password: str, encoding: str = "utf-8") -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode(encoding)).decode()


class World:
    """A policy, the clock, and the work that was done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: Basic | None = None) -> None:
        self.clock = ManualClock()
        self.cells = Cells()
        self.method = basic(USERS) if method is None else method
        self.tried: list[tuple[int, int, int, int]] = []
        self.compared = 0
        monkeypatch.setattr(MODULE, "scrypt", self._scrypt)
        monkeypatch.setattr(MODULE, "compare_digest", self._compare)
        self.bound = self.bind(self.method)

    def bind(self, method: Basic) -> BoundBasic:
        ports = test_ports(clock=self.clock, random=SeededRandom(7), cells=self.cells)
        return method.bind_to(ports, "gateway", lambda identity: [])

    def _scrypt(self, password: bytes, *, salt: bytes, n: int, r: int, p: int, dklen: int) -> bytes:
        self.tried.append((n, r, p, dklen))
        return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, dklen=dklen)

    def _compare(self, one: bytes, other: bytes) -> bool:
        self.compared += 1
        return hmac.compare_digest(one, other)

    def ask(self, *values: str, bound: BoundBasic | None = None, **more: Any) -> Identity | tuple[int, str] | None:
        exchange = request(headers=[("Authorization", one) for one in values], **{"scheme": "https", **more})
        found = (self.bound if bound is None else bound).identify(exchange)
        if found is None:
            return None
        if isinstance(found, Reply):
            if found.status == 503:
                assert found.headers == [(b"retry-after", b"1")]
            return found.status, found.reason
        return found.identity


INVALID = (401, "authn.invalid_credentials")
BUSY = (503, "authn.busy")
IDENTITY = Identity("svc-ann", tenant="acme", scopes=frozenset("a"), roles=frozenset("r"), scheme="basic")
