"""A token, what it is verified with, and what comes of it: for the tests of JWT verification."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any

from tests.policies.authn.jose_vectors import EVERY, compact, jwk, signer

from gatekit.core.policy import Job
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.bearer import Token
from gatekit.policies.authn.jose_keys import Key, KeySet, read_key_set
from gatekit.policies.authn.jwt import Jwt, jwt
from gatekit.policies.authn.jwt_bound import BoundJwt
from gatekit.policies.authn.method import Verified
from gatekit.testing import ManualClock
from gatekit.testing.policies import step

ISSUER = "https://issuer.test"
NOW = 1_700_000_000
CLAIMS: dict[str, Any] = {"iss": ISSUER, "sub": "ann", "aud": "shop", "exp": NOW + 300, "scope": "orders:read"}
KEYS = {"keys": [jwk("RS256"), jwk("ES256", kid="e")]}


class HeldKeys:
    """Keys that are told at once, or after a wait, or cannot be had. `asked` is what was looked for."""

    def __init__(self, keys: KeySet, *, later: bool = False, down: bool = False) -> None:
        self._keys = keys
        self.later = later
        self.down = down
        self.asked: list[tuple[str | None, str]] = []

    def find(self, kid: str | None, algorithm: str) -> Key | Awaitable[Key | None] | None:
        self.asked.append((kid, algorithm))
        return self._fetched(kid, algorithm) if self.later or self.down else self._keys.find(kid, algorithm)

    async def _fetched(self, kid: str | None, algorithm: str) -> Key | None:
        if self.down:
            raise StoreUnavailable("the issuer at https://internal.test does not answer")
        return self._keys.find(kid, algorithm)

    def jobs(self) -> list[Job]:
        return [Job("refresh", self._refreshed, lambda: 60.0)]

    async def _refreshed(self) -> None: ...

    def status(self) -> Mapping[str, object]:
        return {"keys": len(self._keys)}


def spec(**fields: Any) -> Jwt:
    given: Any = {"issuer": ISSUER, "audience": "shop", "jwks": KEYS, **fields}
    return jwt(**{name: value for name, value in given.items() if value is not ...})


def bound(
    clock: ManualClock | None = None, keys: HeldKeys | None = None, told: Callable[..., Any] = lambda who: [], **fields: Any
) -> BoundJwt:  # fmt: skip
    held = keys or HeldKeys(read_key_set(KEYS, EVERY))
    return BoundJwt(spec(**fields), held, clock or ManualClock(), "gateway", told)


def parsed(text: bytes) -> Token:
    return Token(text, sha256(text).digest())


def made(algorithm: str = "ES256", header: Mapping[str, Any] = {}, **claims: Any) -> bytes:
    body = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not ...}
    head = {"alg": algorithm, "kid": "e" if algorithm == "ES256" else "k", **header}
    return compact(
        {name: value for name, value in head.items() if value is not ...}, json.dumps(body).encode(), signer(algorithm)
    )


def answer(method: BoundJwt, text: bytes) -> Verified | Reply:
    found = method.verify(parsed(text))
    return found if isinstance(found, (Verified, Reply)) else step(found, "verify")  # type: ignore[arg-type]


def reason(method: BoundJwt, text: bytes) -> str | None:
    found = answer(method, text)
    if isinstance(found, Verified):
        return None
    assert found.status == 401
    assert found.headers == [(b"www-authenticate", b'Bearer realm="gateway", error="invalid_token"')]
    return found.reason
