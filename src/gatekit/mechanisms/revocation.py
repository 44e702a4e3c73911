"""One revocation: what is no longer valid, and for how long anybody has to remember it.

It has one strict form as JSON, in which it stands in files and shared stores. Times are whole seconds since the Unix
epoch, rounded up: what was issued in the very second of a revocation is revoked too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil, isfinite
from typing import Any, Final, Literal, Required, TypedDict, Unpack

KINDS: Final = ("jti", "sub", "sid", "client_id", "tenant", "iss", "all")
"""What may be revoked: what has this claim with this value, or everything."""

MAX_VALUE: Final = 1024
"""Characters in a value or an issuer. No longer text is ever revoked."""
MAX_WHY: Final = 512
MAX_TIME: Final = 253_402_300_799
"""The last second of the year 9999."""
MAX_JSON: Final = 32 * 1024
"""Bytes in the JSON form: every character of the longest fields as twelve."""

_CLAIMS: Final[tuple[Literal["jti", "sub", "sid", "client_id", "tenant"], ...]] = (
    "jti",
    "sub",
    "sid",
    "client_id",
    "tenant",
)
_ONLY_BEFORE: Final = ("iss", "all")
_DATED: Final = ("sub", "client_id", "tenant", "iss", "all")
_DIGEST_BITS: Final = 128
_DIGEST: Final = re.compile(r"@?[0-9a-f]{32}")


class RevocationRefused(ValueError):
    """This is no revocation. The text says why and repeats no value."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is revoked: credentials whose claim `kind` is `value`, within the issuer `iss` where that is given.

    `until` is when the last of them ends by itself, None where that is never. With `before` those alone that were issued
    before it, and those that do not say when. `restored` takes back the revocation that it is otherwise equal to. `at`
    and `why` are for people. Raises RevocationRefused.
    """

    kind: str
    value: str | None = None
    iss: str | None = None
    until: int | None = None
    before: int | None = None
    at: int = 0
    why: str = ""
    restored: bool = False
    digest: str | None = None
    """In place of a value and an issuer that nobody has in clear text any more: 32 hex digits, and `@` before them where
    there was an issuer."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RevocationRefused(f"kind is one of {', '.join(KINDS)}")
        if self.digest is not None:
            _check_digest(self, self.digest)
        elif self.kind == "all":
            if self.value is not None or self.iss is not None:
                raise RevocationRefused("everything has neither a value nor an issuer")
        else:
            _check_text("value", self.value)
            if self.iss is not None:
                if self.kind == "iss":
                    raise RevocationRefused("an issuer is the value here")
                _check_text("iss", self.iss)
        for name, time in (("until", self.until), ("before", self.before), ("at", self.at)):
            if not _is_time(time) and not (time is None and name != "at"):
                raise RevocationRefused(f"{name} is a whole number of seconds since the Unix epoch")
        if self.before is None and self.kind in _ONLY_BEFORE:
            raise RevocationRefused(f"{self.kind} is revoked as of a time: say what was issued before which one")
        if self.before is not None and self.kind not in _DATED:
            raise RevocationRefused(f"{self.kind} is revoked as a whole, not as of a time")
        if not _is_text(self.why, MAX_WHY):
            raise RevocationRefused(f"why is text of at most {MAX_WHY} characters")
        if not isinstance(self.restored, bool):
            raise RevocationRefused("restored is true or false")

    @property
    def key(self) -> int:
        """The number under which a `Denylist` has it: its kind and a digest of its value."""
        if self.digest is not None:
            scoped = self.digest.startswith("@")
            return code_of(self.kind, scoped) | int(self.digest[scoped:], 16)
        if self.value is None:
            return code_of(self.kind, False)
        text = self.value if self.iss is None else within(self.iss, self.value)
        return code_of(self.kind, self.iss is not None) | int.from_bytes(digest_of(text))

    @property
    def name(self) -> str:
        """What it is called in a shared store: the same for two that only differ in `until`, `at` and `why`."""
        return name_of(self.key, self.before)

    def as_json(self) -> str:
        """Its JSON form, on one line, in ASCII."""
        found = ((name, getattr(self, name)) for name in _FIELDS)
        kept = {name: value for name, value in found if value is not None and value is not False and value != ""}
        return json.dumps(kept, separators=(",", ":"))


_FIELDS: Final = tuple(Revocation.__dataclass_fields__)


def read_revocation(text: bytes | str) -> Revocation:
    """The revocation that this JSON is. Raises RevocationRefused on anything that is not exactly one."""
    if len(text) > MAX_JSON:
        raise RevocationRefused(f"it is longer than {MAX_JSON} bytes")
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        found = _DECODER.decode(plain)
    except RevocationRefused:
        raise
    except (ValueError, RecursionError):
        raise RevocationRefused("it is not JSON") from None
    if type(found) is not dict:
        raise RevocationRefused("it is not a JSON object")
    if not found.keys() <= set(_FIELDS):
        raise RevocationRefused("it has members that a revocation has not")
    if "kind" not in found or "at" not in found:
        raise RevocationRefused("it lacks its kind or when it was made")
    return Revocation(**found)


class Which(TypedDict, total=False):
    """What is revoked, as it is said in Python: one of the claims, with `iss` those of that issuer alone; `iss` by
    itself; or `everything`. `issued_before` is a time in seconds since the Unix epoch."""

    jti: str
    sub: str
    sid: str
    client_id: str
    tenant: str
    iss: str
    everything: bool
    issued_before: float


class What(Which, total=False):
    """A revocation as it is said in Python. `until` must be given; None is a revocation without an end."""

    until: Required[float | None]
    why: str


def revocation(at: float, **what: Unpack[What]) -> Revocation:
    """The revocation that is made by these words at the time `at`. Raises RevocationRefused."""
    end = what["until"]
    until = _whole("until", end)
    if end is not None and end <= at:
        raise RevocationRefused("until is over already: what is to be revoked has ended by itself")
    return _said(what, at, until, what.get("why", ""), restored=False)


def restoration(at: float, **which: Unpack[Which]) -> Revocation:
    """What takes the revocation back that was made by the same words. Raises RevocationRefused."""
    return _said(which, at, None, "", restored=True)


def _said(which: Which, at: float, until: int | None, why: str, *, restored: bool) -> Revocation:
    given: list[tuple[str, str | None]] = [(kind, value) for kind in _CLAIMS if (value := which.get(kind)) is not None]
    iss = which.get("iss")
    if which.get("everything"):
        given.append(("all", None))
    elif not given and iss is not None:
        given, iss = [("iss", iss)], None
    if len(given) != 1:
        raise RevocationRefused("say one thing that is revoked: a claim and its value, an issuer, or everything")
    kind, value = given[0]
    return Revocation(
        kind, value, iss, until, _whole("issued_before", which.get("issued_before")), int(at), why, restored
    )


def _whole(name: str, time: Any) -> int | None:
    """That time in whole seconds, rounded up. Raises RevocationRefused."""
    if time is None:
        return None
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not isfinite(time):
        raise RevocationRefused(f"{name} is a number of seconds since the Unix epoch")
    return ceil(time)


def code_of(kind: str, scoped: bool) -> int:
    """What a key has above its digest: the kind, and whether an issuer is part of it."""
    return (KINDS.index(kind) * 2 + scoped) << _DIGEST_BITS


def within(iss: str, value: str) -> str:
    """One text for an issuer and a value in it. No other pair gives the same."""
    return f"{len(iss)}:{iss}{value}"


_EMPTY: Final = blake2b(digest_size=_DIGEST_BITS // 8)
_BEGIN: Final[Callable[[], blake2b]] = _EMPTY.copy


def digest_of(text: str) -> bytes:
    """The digest of this text, which may hold lone surrogates, as text from JSON may.

    Whoever finds a second text with the digest of another one has done 2^128 steps: so it stands for the text itself,
    and takes the same memory for each.
    """
    digest = _BEGIN()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()


def name_of(key: int, before: float | None) -> str:
    """What the entry with this key is called in a shared store."""
    kind, scoped, digest = parted(key)
    dated = "" if before is None else f"<{before:.0f}"
    return f"{kind}:{'@' if scoped else ''}{digest}{dated}"


def parted(key: int) -> tuple[str, bool, str]:
    """The kind in a key, whether an issuer is part of it, and its digest in hex."""
    code, digest = divmod(key, 1 << _DIGEST_BITS)
    return KINDS[code // 2], bool(code % 2), f"{digest:032x}"


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest


def _check_text(name: str, value: object) -> None:
    if not value or not _is_text(value, MAX_VALUE):
        raise RevocationRefused(f"{name} is text of 1 to {MAX_VALUE} characters")


def _check_digest(record: Revocation, digest: object) -> None:
    if record.value is not None or record.iss is not None:
        raise RevocationRefused("a digest stands in place of value and issuer")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise RevocationRefused("digest is 32 hex digits in lower case, with @ before them where there was an issuer")
    impossible = digest.strip("0") if record.kind == "all" else record.kind == "iss" and digest.startswith("@")
    if impossible:
        raise RevocationRefused("there is no such digest of this kind")


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TIME


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise RevocationRefused("it has a member twice")
    return members


def _refuse(text: str) -> Any:
    raise RevocationRefused("its numbers are whole")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_refuse, parse_float=_refuse)
