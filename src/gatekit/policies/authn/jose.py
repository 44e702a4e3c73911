"""Compact JWS (RFC 7515), read strictly: every check of its form is made here, and nothing of it is believed yet.

What is refused although some reader somewhere takes it: padding, stray characters and non-canonical last bits in
base64url, duplicate members, numbers that are none (NaN, 1e999) or too long to be one, lone surrogates, deep nesting,
any `crit`, `b64`, and an embedded `jwk`. `jku`, `x5u`, `x5c` and `x5t` are nothing to us: some issuers send them with
every token, and a key that a token brings along is never looked at.

Pure: no key and no clock is known here.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from json import JSONDecoder, dumps
from math import isfinite
from typing import Any, Final, NoReturn

MAX_TOKEN: Final = 65_536
"""The longest token that is read at all, in bytes."""
MAX_KID: Final = 256
"""The longest key id, in characters."""
MAX_DEPTH: Final = 16
"""How deep objects and lists may lie within each other."""
MAX_PARTS: Final = 10_000
"""How many commas and opening brackets a document may have."""
MAX_NUMBER: Final = 40
"""How long the text of a number may be."""

# The first bits of any JSON object, `{`: an `e`, and then one of these.
_LOOK: Final = re.compile(rb"e[w-z0-9_-][A-Za-z0-9_-]*\.[^.]+\.[^.]+")
_COMPACT: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_URL_SAFE: Final = re.compile(rb"[A-Za-z0-9_-]*")
# What the last character may be where its last four, or two, bits stand for nothing.
_LAST: Final = {2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
# Each match begins behind the last one: what looks for the end of a text would look again from every quote in it.
_MARK: Final = re.compile(r'\\.|["\[\]{},]', re.DOTALL)


class JwsRefused(ValueError):
    """A token is no JWS that is taken here. `reason` is dotted and stable, `detail` says nothing of what is in it."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


class Jws:
    """A token taken apart. Nobody has looked at its signature: whoever uses its parts knows what that means."""

    __slots__ = ("_claims", "algorithm", "header", "kid", "payload", "signature", "signed")

    def __init__(
        self, header: dict[str, Any], algorithm: str, kid: str | None, payload: bytes, signed: bytes, signature: bytes
    ) -> None:
        self.header = header
        self.algorithm = algorithm
        self.kid = kid
        self.payload = payload
        self.signed = signed
        self.signature = signature
        self._claims: dict[str, Any] | None = None

    @property
    def claims(self) -> dict[str, Any]:
        """The payload as a JSON object. Raises JwsRefused."""
        found = self._claims
        if found is None:
            found = self._claims = _object(self.payload, "The claims of the token are no JSON object that can be read.")
        return found

    def __repr__(self) -> str:
        return "Jws(...)"


class JsonRefused(ValueError):
    """A text is not JSON, or is JSON that two readers might read differently."""


def looks_like_jws(text: bytes) -> bool:
    """Whether a token has three parts, none of them empty, of which the first begins as a JSON object does."""
    return _LOOK.fullmatch(text) is not None


def read_jws(text: bytes) -> Jws:
    """Take a token apart. Raises JwsRefused."""
    parts = _COMPACT.fullmatch(text) if len(text) <= MAX_TOKEN else None
    if parts is None:
        raise _malformed("The token is not made of three parts of base64url.")
    head, payload, signature = parts.groups()
    header = _object(_part(head), "The header of the token is no JSON object that can be read.")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise _malformed("The token does not say by which algorithm it is signed.")
    if "crit" in header or "b64" in header or "jwk" in header:
        raise JwsRefused("authn.unsupported_token", "The token asks for an extension that is not taken here.")
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID and kid.isprintable()):
        raise _malformed("The key id of the token is no short printable text.")
    if not isinstance(header.get("typ", ""), str):
        raise _malformed("The type of the token is no text.")
    return Jws(header, algorithm, kid, _part(payload), text[: parts.end(2)], _part(signature))


def decode_base64url(text: bytes) -> bytes:
    """The bytes that unpadded base64url stands for (RFC 7515 section 2). Raises ValueError for any other spelling."""
    if _URL_SAFE.fullmatch(text) is None:
        raise ValueError("base64url is made of letters, digits, dashes and underscores")
    return _decoded(text)


def read_json(text: bytes) -> Any:
    """What a JSON text in UTF-8 stands for, where every reader agrees on it. Raises JsonRefused.

    Duplicate members, lone surrogates, NaN, infinities, overlong numbers and deep nesting are refused.
    """
    try:
        document = text.decode("utf-8")
        _measure(document)
        value = _DECODER.decode(document)
        if "\\u" in document:
            # Half a surrogate pair is text that cannot be written.
            dumps(value, ensure_ascii=False).encode("utf-8")
    except JsonRefused:
        raise
    except (ValueError, RecursionError):
        raise JsonRefused("this is no JSON in UTF-8") from None
    return value


def _object(text: bytes, detail: str) -> dict[str, Any]:
    try:
        value = read_json(text)
    except JsonRefused:
        raise _malformed(detail) from None
    if not isinstance(value, dict):
        raise _malformed(detail)
    return value


def _malformed(detail: str) -> JwsRefused:
    return JwsRefused("authn.malformed_token", detail)


def _part(text: bytes) -> bytes:
    try:
        return _decoded(text)
    except ValueError:
        raise _malformed("A part of the token is no canonical base64url.") from None


def _decoded(text: bytes) -> bytes:
    """The bytes of what consists of the right characters. Raises ValueError."""
    rest = len(text) % 4
    if rest == 1 or (rest and text[-1] not in _LAST[rest]):
        raise ValueError("no bytes have this as their canonical base64url")
    return a2b_base64(text.translate(_STANDARD) + b"=" * (-rest % 4))


def _measure(document: str) -> None:
    """Refuse what is nested too deep or has too many parts, before anything is built from it."""
    # Nearly every document is shown to be small by counting alone, marks within texts included.
    opened = document.count("{") + document.count("[")
    if opened <= MAX_DEPTH and opened + document.count(",") <= MAX_PARTS:
        return
    depth = parts = 0
    in_text = False
    for found in _MARK.finditer(document):
        mark = found[0]
        if mark == '"':
            in_text = not in_text
        elif in_text:
            continue
        elif mark in "[{":
            depth += 1
            parts += 1
        elif mark in "]}":
            depth -= 1
        else:
            parts += 1
        if depth > MAX_DEPTH or parts > MAX_PARTS:
            raise JsonRefused("this is nested too deep or has too many parts")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise JsonRefused("a member is there twice")
    return found


def _whole(text: str) -> int:
    if len(text) > MAX_NUMBER:
        raise JsonRefused("a number is too long")
    return int(text)


def _real(text: str) -> float:
    value = float(text) if len(text) <= MAX_NUMBER else float("inf")
    if not isfinite(value):
        raise JsonRefused("a number is too long or too large")
    return value


def _no_number(text: str) -> NoReturn:
    raise JsonRefused("this is no number in JSON")


_DECODER: Final = JSONDecoder(
    object_pairs_hook=_members, parse_int=_whole, parse_float=_real, parse_constant=_no_number
)

__all__ = [
    "MAX_TOKEN", "JsonRefused", "Jws", "JwsRefused", "decode_base64url", "looks_like_jws", "read_json", "read_jws",
]  # fmt: skip
