"""API keys as text, and what is kept of them.

A key that is made here reads `gk_<prefix>_<secret><checksum>`, all in the 32 letters and digits of Crockford's alphabet,
lower case, that nobody takes for one another. The prefix (10 characters, 50 bits) is what a key is found by, and may be
shown. The secret (32 characters) has 160 random bits. The checksum (7 characters) is the CRC-32 of all before it: it is
no defence, as anybody can compute it, but it tells a mistyped key from a wrong one before anything is looked up, and
lets scanners of logs and sources recognise a leaked one with certainty.

What is kept is `v1:<prefix>:<salt>:<digest>`: 16 random bytes and SHA-256(salt + key), both in base64url without padding.
One round of SHA-256 is enough: whoever has the digest must try about 2^159 secrets, and slowing each try down, as
scrypt or Argon2 would, is worth a few bits where what is guessed is a word and nothing here, while every request would
pay for it. Passwords that people choose belong to `basic`. The salt is for those who hold two lists: the same key has
another digest in each, and no digest can be compared with a list of those that leaked elsewhere.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple
from zlib import crc32

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
PREFIX_LENGTH: Final = 10
SECRET_BYTES: Final = 20
SALT_BYTES: Final = 16

_PAIRS: Final = tuple(one + two for one in ALPHABET for two in ALPHABET)
_SHAPE = re.compile(rb"(gk_([0-9a-hjkmnp-tv-z]{10})_[0-9a-hjkmnp-tv-z]{32})([0-9a-hjkmnp-tv-z]{7})")
_HASH = re.compile(r"v1:([0-9a-hjkmnp-tv-z]{10}):([A-Za-z0-9_-]{22}):([A-Za-z0-9_-]{43})")


class NewApiKey(NamedTuple):
    """A key that was just made: its text, which goes to the caller and is kept nowhere, its prefix, and what is kept."""

    text: str
    prefix: str
    hash: str

    def __repr__(self) -> str:
        return f"NewApiKey(prefix={self.prefix!r})"


class KeyHash(NamedTuple):
    """What is kept of a key. `prefix` names it; `salt` and `digest` are compared with."""

    prefix: str
    salt: bytes
    digest: bytes

    def __repr__(self) -> str:
        return f"KeyHash(prefix={self.prefix!r})"

    def fits(self, key: bytes) -> bool:
        """Whether it is of that key. The time it takes says nothing about how much of it is right."""
        return compare_digest(sha256(self.salt + key).digest(), self.digest)


def new_api_key(random: Callable[[int], bytes]) -> NewApiKey:
    """A new key; `random` gives that many bytes which nobody can guess (`secrets.token_bytes`, `Random.token`)."""
    prefix = _digits(int.from_bytes(random(7), "big"), PREFIX_LENGTH)
    body = f"gk_{prefix}_{_digits(int.from_bytes(random(SECRET_BYTES), 'big'), 32)}"
    text = body + checksum(body.encode("ascii"))
    return NewApiKey(text, prefix, hash_of(text, random(SALT_BYTES)))


def hash_of(text: str, salt: bytes) -> str:
    """What is kept of that key under that salt. Raises ValueError unless it is a key of this form, whole and correct."""
    prefix = prefix_of(text.encode("ascii", "replace"))
    if not prefix:
        raise ValueError("this is no key that was made here: it has another form, or its checksum does not fit")
    return f"v1:{prefix}:{_base64(salt)}:{_base64(sha256(salt + text.encode('ascii')).digest())}"


def read_hash(text: str) -> KeyHash | None:
    """The parts of `v1:…`, None where it is none or not written as it is written here."""
    found = _HASH.fullmatch(text)
    if found is None:
        return None
    salt, digest = _bytes(found[2]), _bytes(found[3])
    # The last character of either has bits to spare, so that several texts would stand for the same bytes.
    return KeyHash(found[1], salt, digest) if (_base64(salt), _base64(digest)) == (found[2], found[3]) else None


def prefix_of(key: bytes) -> str | None:
    """The prefix of a key of this form; "" where the form is right and the checksum is not, None for anything else."""
    found = _SHAPE.fullmatch(key)
    if found is None:
        return None
    return found[2].decode("ascii") if found[3].decode("ascii") == checksum(found[1]) else ""


def checksum(body: bytes) -> str:
    """The seven characters that end a key."""
    # Two at a time: a key comes with every request.
    number = crc32(body)
    return ALPHABET[number >> 30] + _PAIRS[number >> 20 & 1023] + _PAIRS[number >> 10 & 1023] + _PAIRS[number & 1023]


def _digits(number: int, length: int) -> str:
    """The last `length` digits of that number to base 32."""
    return "".join(ALPHABET[(number >> 5 * place) & 31] for place in range(length - 1, -1, -1))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
