"""An issuer that a test rotates and breaks, and a background that runs its refresh on the manual clock."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from itertools import pairwise
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekit.core.events import Event
from gatekit.core.ports import PUBLIC, Fetched, Ports, Reach
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.jose_keys import Key
from gatekit.policies.authn.keysets import KeySource, RemoteKeys
from gatekit.testing import ManualClock, test_ports
from gatekit.testing.policies import step

URL = "https://id.example/keys"
ISSUER = "https://id.example"
ALGORITHMS = frozenset({"EdDSA"})


@cache
def jwk(kid: str) -> dict[str, str]:
    """A public key, the same one for the same id."""
    private = Ed25519PrivateKey.from_private_bytes(sha256(kid.encode()).digest())
    point = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = urlsafe_b64encode(point).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "x": x}


def jwks(*kids: str) -> bytes:
    return json.dumps({"keys": [jwk(kid) for kid in kids]}).encode()


class Idp:
    """A `Fetch` with one issuer behind it.

    `kids` are the keys it publishes. `answer` stands in place of its key set, where a test sets it: a status, a body,
    or an error to be raised. `pages` are other URLs and what they answer. `asked` has every URL in order, with when.
    """

    def __init__(self, clock: ManualClock, *kids: str) -> None:
        self.clock = clock
        self.kids = list(kids)
        self.answer: int | bytes | Exception | None = None
        self.headers: dict[str, str] = {}
        self.pages: dict[str, int | bytes | Exception] = {}
        self.asked: list[tuple[float, str]] = []
        self.told: list[tuple[Sequence[tuple[str, str]], float, Reach]] = []

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
        reach: Reach = PUBLIC,
    ) -> Fetched:
        assert (method, body) == ("GET", None)
        self.asked.append((self.clock.monotonic(), url))
        self.told.append((headers, timeout, reach))
        page = self.pages.get(url, 404 if "/.well-known/" in url else self.answer)
        if isinstance(page, Exception):
            raise page
        if isinstance(page, int):
            return Fetched(page, {}, b"")
        return Fetched(200, self.headers, jwks(*self.kids) if page is None else page)

    def down(self) -> None:
        self.answer = StoreUnavailable("https://id.example: no answer within 5.0 s")

    def up(self) -> None:
        self.answer = None

    @property
    def fetches(self) -> int:
        return len(self.asked)


class Scene:
    """An issuer, ports and key sets over them."""

    def __init__(self, *kids: str, **ports: Any) -> None:
        self.clock = ManualClock()
        self.idp = Idp(self.clock, *kids)
        self.events: list[Event] = []
        self.ports: Ports = test_ports(**{"clock": self.clock, "fetch": self.idp, **ports})
        self.ports.events.subscribe(Event, self.events.append)

    def keys(self, **settings: Any) -> RemoteKeys:
        given: dict[str, Any] = {"algorithms": ALGORITHMS, **settings}
        if "issuer" not in given:
            given.setdefault("url", URL)
        return RemoteKeys(KeySource(**given), self.ports)

    def restarted(self, **ports: Any) -> Scene:
        """The same issuer, clock and disk, seen from a new process."""
        other = Scene(**{"clock": self.clock, "fetch": self.idp, "disk": self.ports.disk, **ports})
        other.clock, other.idp = self.clock, self.idp
        return other


def ask(keys: RemoteKeys, kid: str | None, algorithm: str = "EdDSA") -> Key | None:
    """The key for a token, by way of the ports where they must be asked; they never suspend here."""
    found = keys.find(kid, algorithm)
    if isinstance(found, Coroutine):
        waited: Key | None = step(found, "find")
        return waited
    assert found is None or isinstance(found, Key)
    return found


def plain(keys: RemoteKeys, kid: str | None, algorithm: str = "EdDSA") -> Key | None:
    """The same for what must be known at once."""
    found = keys.find(kid, algorithm)
    if isinstance(found, Coroutine):
        found.close()
        raise AssertionError(f"{kid} is not known at once")
    assert found is None or isinstance(found, Key)
    return found


def refresh(keys: RemoteKeys) -> float:
    """Run the job once; in how many seconds it wants to run again."""
    (job,) = keys.jobs()
    run = job.run()
    assert isinstance(run, Coroutine)
    step(run, "the refresh")
    return job.interval()


class Background:
    """The runtime's part, on the manual clock: the job runs whenever its time has come."""

    def __init__(self, keys: RemoteKeys, clock: ManualClock) -> None:
        self._keys = keys
        self._clock = clock
        self._next = clock.monotonic()
        self.runs: list[float] = []

    def advance(self, seconds: float) -> None:
        end = self._clock.monotonic() + seconds
        while self._next <= end:
            self._clock.advance(max(0.0, self._next - self._clock.monotonic()))
            self.runs.append(self._clock.monotonic())
            self._next = self._clock.monotonic() + refresh(self._keys)
        self._clock.advance(max(0.0, end - self._clock.monotonic()))


def apart(times: Iterable[float]) -> list[float]:
    """How much time there is between each and the next."""
    return [later - sooner for sooner, later in pairwise(times)]


def status(keys: RemoteKeys) -> Mapping[str, Any]:
    return dict(keys.status())
