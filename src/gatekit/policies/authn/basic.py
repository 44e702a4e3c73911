"""HTTP Basic (RFC 7617), for what cannot do better: a name and a password in every request.

Passwords are kept as scrypt hashes, which are slow on purpose: at the strongest that is taken here, one try costs 16 MiB
and some 50 ms, in which the event loop does nothing else. So a good credential is remembered for a minute, a wrong one
for ten seconds, and only so many are tried in a second (`checks`); beyond that the answer is 503, and whoever was let in
a moment ago is let in still. Guessing is for a rate limit by address to stop, before this is asked.

A name that nobody has costs the same scrypt as one that somebody has, so the time tells nothing about who is there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from hashlib import scrypt, sha256
from hmac import compare_digest
from typing import Any, Final, Literal, NamedTuple
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.ports import Ports
from gatekit.core.units import Seconds
from gatekit.core.verdict import Reply
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.authn.keys import Plain, Role, Scope
from gatekit.policies.authn.method import Answer, IdentityHeaders, Verified, refusal, unavailable

GOOD_FOR: Final = 60.0
"""For how many seconds at most a good credential is believed without a second look."""
WRONG_FOR: Final = 10.0
"""For how many seconds a wrong one is refused without a second look."""
MAX_GOOD: Final = 10_000
MAX_WRONG: Final = 1_000

_COST: Final = (2**13, 2**17)
"""The least and the most work, n × r × p: about 3 ms and 50 ms."""
_HASH = re.compile(r"scrypt:([0-9]{1,6}):([0-9]{1,3}):([0-9]{1,3}):([A-Za-z0-9_-]{22,86}):([A-Za-z0-9_-]{43,86})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


class _Scrypt(NamedTuple):
    """A stored hash, read."""

    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def fits(self, password: bytes) -> bool:
        made = scrypt(password, salt=self.salt, n=self.n, r=self.r, p=self.p, dklen=len(self.digest))
        return compare_digest(made, self.digest)


def hash_password(password: str, random: Callable[[int], bytes], *, n: int = 2**14, r: int = 8, p: int = 1) -> str:
    """The hash to configure for that password; `random` gives that many bytes which nobody can guess.

    Raises ValueError on parameters that are not taken, and on a password with control characters.
    """
    if _CONTROL.search(password):
        raise ValueError("a password has no control characters (RFC 7617 section 2)")
    _check_cost(n, r, p)
    salt = random(16)
    digest = scrypt(normalize("NFC", password).encode("utf-8"), salt=salt, n=n, r=r, p=p, dklen=32)
    return f"scrypt:{n}:{r}:{p}:{_text(salt)}:{_text(digest)}"


def _check_cost(n: int, r: int, p: int) -> None:
    least, most = _COST
    if n < 2**10 or n > 2**14 or n & (n - 1) or r < 1 or p < 1 or not least <= n * r * p <= most:
        raise ValueError(
            f"scrypt's n is a power of two from {2**10} to {2**14}, and n × r × p from {least} to {most}: less is too "
            "easy to guess, and more would let everybody wait"
        )


def _read(text: str) -> _Scrypt:
    found = _HASH.fullmatch(text)
    if found is None or 1 in (len(found[4]) % 4, len(found[5]) % 4):
        raise ValueError(
            "hash is scrypt:n:r:p:salt:digest, salt and digest in base64url without padding, as hash_password makes it"
        )
    n, r, p = (int(found[place]) for place in (1, 2, 3))
    _check_cost(n, r, p)
    salt, digest = (base64.urlsafe_b64decode(found[place] + "=" * (-len(found[place]) % 4)) for place in (4, 5))
    return _Scrypt(n, r, p, salt, digest)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


class BasicUser(BaseModel):
    """One user: the hash of the password, and whom it stands for. A bare string is the hash."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    hash: str = Field(repr=False)
    """`scrypt:n:r:p:salt:digest`, as `hash_password` makes it."""
    subject: Plain | None = None
    """Who it is; the name of the user unless it is given."""
    tenant: Plain | None = None
    """The tenant the caller belongs to."""
    scopes: frozenset[Scope] = frozenset()
    """What the caller may do (RFC 6749 section 3.3)."""
    roles: frozenset[Role] = frozenset()
    """What the caller is."""

    # Here so that the hash may be given by position, and that type checkers take any collection for scopes and roles.
    def __init__(self, hash: str | None = None, /, **fields: Any) -> None:
        super().__init__(**(fields if hash is None else {"hash": hash, **fields}))

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"hash": value} if isinstance(value, str) else value

    @field_validator("hash")
    @classmethod
    def _is_hash(cls, value: str) -> str:
        _read(value)
        return value


class Basic(BaseModel):
    """Authentication by name and password in each request (RFC 7617), for callers that can do nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    method: Literal["basic"] = "basic"
    users: dict[Plain, BasicUser] = Field(min_length=1)
    """Name → user."""
    checks: int = Field(default=10, ge=1, le=1000)
    """How many passwords are tried in a second in this process; the next is answered 503. One costs up to 50 ms, in which
    nothing else is done."""
    cache: Seconds = Field(default=GOOD_FOR, ge=0, le=GOOD_FOR)
    """For how many seconds a good credential is believed without another try. 0 tries every request's."""
    max_length: int = Field(default=1024, ge=16, le=8192)
    """The longest credential, in bytes as it is sent. A longer one is wrong without being tried."""
    insecure: bool = False
    """Whether passwords are taken that came over plain HTTP. Otherwise they are refused there: over the server's own TLS,
    or behind a trusted proxy that says `X-Forwarded-Proto: https`, they are not."""
    forward: bool = False
    """Whether the Authorization header goes on to the app or upstream."""

    @field_validator("users")
    @classmethod
    def _are_names(cls, value: dict[str, BasicUser]) -> dict[str, BasicUser]:
        if any(":" in name for name in value):
            raise ValueError("a name has no colon: in a credential it ends there (RFC 7617 section 2)")
        if len({normalize("NFC", name) for name in value}) < len(value):
            raise ValueError("two names are the same, written otherwise")
        return value

    def bind_to(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundBasic:
        return BoundBasic(self, ports, realm, headers)


def basic(
    users: Mapping[str, BasicUser | str],
    *,
    checks: int = 10,
    cache: float = GOOD_FOR,
    max_length: int = 1024,
    insecure: bool = False,
    forward: bool = False,
) -> Basic:
    """Authentication by name and password, for `Authn(basic({...}))`. The fields are those of `Basic`."""
    return Basic(
        users=dict(users),  # type: ignore[arg-type]
        checks=checks,
        cache=cache,
        max_length=max_length,
        insecure=insecure,
        forward=forward,
    )


class _Tried(NamedTuple):
    """A credential that was tried: for whom (the name, and the hash that it was tried with)."""

    name: str
    hash: str


class _Lately:
    """What was tried lately, through every reload: under digests with a salt that this process alone has."""

    __slots__ = ("good", "left", "refilled", "salt", "wrong")

    def __init__(self, salt: bytes, left: float, now: float) -> None:
        self.salt = salt
        self.good: RecentCache[bytes, _Tried] = RecentCache(MAX_GOOD)
        # Apart, so that guesses push out no good one.
        self.wrong: RecentCache[bytes, _Tried] = RecentCache(MAX_WRONG)
        self.left = left
        self.refilled = now


class _Known(NamedTuple):
    hash: str
    scrypt: _Scrypt
    verified: Verified


class BoundBasic:
    """HTTP Basic at work."""

    __slots__ = (
        "_ambiguous", "_cache", "_checks", "_clock", "_exposed", "_insecure", "_invalid", "_known", "_lately", "_max_length",
        "_names", "missing", "stripped",
    )  # fmt: skip

    def __init__(self, spec: Basic, ports: Ports, realm: str, headers: IdentityHeaders) -> None:
        self._clock = clock = ports.clock
        self._cache = spec.cache
        self._checks = spec.checks
        self._max_length = spec.max_length
        self._insecure = spec.insecure
        self.stripped = frozenset() if spec.forward else frozenset({b"authorization"})
        self._known: dict[str, _Known] = {}
        for name, user in spec.users.items():
            subject = user.subject or name
            identity = Identity(subject, tenant=user.tenant, scopes=user.scopes, roles=user.roles, scheme="basic")
            marks = {"sub": subject} if user.tenant is None else {"sub": subject, "tenant": user.tenant}
            verified = Verified(identity, headers(identity), marks)
            self._known[normalize("NFC", name)] = _Known(user.hash, _read(user.hash), verified)
        self._names = tuple(self._known)
        self._lately = ports.cell(
            "basic", lambda: _Lately(ports.random.token(32), float(spec.checks), clock.monotonic())
        )
        challenge = f'Basic realm="{realm}", charset="UTF-8"'
        self.missing = refusal("authn.missing_credentials", "This request needs a name and a password.", challenge)
        self._invalid = refusal("authn.invalid_credentials", "The name or the password is wrong.", challenge)
        self._ambiguous = refusal("authn.ambiguous_credentials", "Send exactly one Authorization.", challenge)
        # No challenge: a browser would ask for the password and send it again.
        self._exposed = Reply(403, "authn.insecure_transport", "Passwords are taken over HTTPS only.")

    def identify(self, exchange: Exchange) -> Answer | None:
        found = None
        for name, value in exchange.headers.raw:
            if name == b"authorization":
                if found is not None:
                    return self._ambiguous
                found = value
        if found is None:
            return None
        word, _, sent = found.partition(b" ")
        if word.lower() != b"basic":
            return None
        if not self._insecure and not _is_private(exchange):
            return self._exposed
        return self._looked_up(exchange, sent)

    def strip(self, exchange: Exchange) -> None:
        pass

    def _looked_up(self, exchange: Exchange, sent: bytes) -> Answer:
        """The user, if this was tried a moment ago; otherwise it is tried now."""
        lately, now = self._lately, self._clock.monotonic()
        if len(sent) > self._max_length:
            return self._invalid
        digest = sha256(lately.salt + sent).digest()
        tried = lately.good.get(digest, now)
        if tried is not None:
            user = self._known.get(tried.name)
            if user is not None and user.hash == tried.hash:
                return user.verified
        tried = lately.wrong.get(digest, now)
        if tried is not None and tried.hash == self._hash(tried.name):
            return self._invalid
        pair = _pair(sent)
        if pair is None:
            return self._invalid
        if not self._may_try(now):
            return unavailable("authn.busy", "Too many passwords are being tried.")
        name, password = pair
        user = self._known.get(name)
        # For a name that nobody has, somebody else's hash does the work: always the same one for that name.
        other = self._names[
            int.from_bytes(sha256(lately.salt + name.encode("utf-8")).digest()[:8], "big") % len(self._names)
        ]
        fits = (self._known[other] if user is None else user).scrypt.fits(password)
        if user is None or not fits:
            lately.wrong.put(digest, _Tried(name, self._hash(name)), now, WRONG_FOR)
            return self._invalid
        lately.good.put(digest, _Tried(name, user.hash), now, self._cache)
        return user.verified

    def _hash(self, name: str) -> str:
        """What that name's password is tried with now; "" for a name that nobody has."""
        user = self._known.get(name)
        return "" if user is None else user.hash

    def _may_try(self, now: float) -> bool:
        """Whether another password may be tried; as many as are allowed in a second may come at once."""
        lately = self._lately
        lately.left = min(self._checks, lately.left + (now - lately.refilled) * self._checks)
        lately.refilled = now
        if lately.left < 1.0:
            return False
        lately.left -= 1.0
        return True


def _is_private(exchange: Exchange) -> bool:
    """Whether the client sent this over TLS, as far as anybody can know who is believed."""
    if exchange.scheme in ("https", "wss"):
        return True
    if not exchange.door.trust.trusts(exchange.peer):
        return False
    told = [value for name, value in exchange.headers.origin if name == b"x-forwarded-proto"]
    # Of several hops the first is the one the client's password was sent over.
    return bool(told) and told[0].partition(b",")[0].strip().lower() == b"https"


def _pair(sent: bytes) -> tuple[str, bytes] | None:
    """Name and password of a credential, both as NFC, the password as UTF-8 again; None where it is none."""
    if not _BASE64.fullmatch(sent):
        return None
    try:
        text = normalize("NFC", base64.b64decode(sent, validate=True).decode("utf-8"))
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, colon, password = text.partition(":")
    if not colon or _CONTROL.search(text):
        return None
    return name, password.encode("utf-8")
