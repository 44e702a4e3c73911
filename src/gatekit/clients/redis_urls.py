"""URLs of Redis and Valkey, and the slots of a cluster. Pure.

    redis://user:password@host:6379/0                     one server
    redis+cluster://user:password@host1,host2:7000        a cluster, by some of its nodes
    redis+sentinel://user:password@host1,host2/mymaster   the master that sentinels name

and the same with `rediss` for TLS. No error repeats a URL: it may hold a password.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

SLOTS: Final = 16384
"""Into so many slots a cluster parts its keys."""
MAX_SEEDS: Final = 32
SHORTEST: Final = 0.005
LONGEST: Final = 5.0

_KINDS: Final[Mapping[str, tuple[Kind, bool]]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
}
_LIKE: Final[Mapping[Kind, str]] = {
    "server": "this is no URL of a Redis server: redis://host:6379/0 is, or rediss:// for TLS",
    "cluster": "this is no URL of a Redis cluster: redis+cluster://host1:6379,host2:6379 is, or rediss+cluster:// for TLS",
    "sentinel": "this is no URL of sentinels: redis+sentinel://host1:26379,host2:26379/mymaster?db=0 is, or "
    "rediss+sentinel:// for TLS",
}
_PATHS: Final[Mapping[Kind, re.Pattern[str]]] = {
    "server": re.compile(r"/?|/(?P<database>[0-9]{1,4})"),
    "cluster": re.compile(r"/?|/(?P<database>0)"),
    "sentinel": re.compile(r"/(?P<master>[A-Za-z0-9._-]{1,128})"),
}
_OWN: Final[Mapping[Kind, tuple[str, ...]]] = {
    "server": ("timeout",),
    "cluster": ("timeout",),
    "sentinel": ("timeout", "db", "sentinel_user", "sentinel_password"),
}
_TLS_FILES: Final = ("ca", "cert", "key")
_HIDDEN: Final = ("sentinel_user", "sentinel_password")
_PLAIN: Final = re.compile(r"[\x21-\x7e\x80-\U0010ffff]*")
_PLACE: Final = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[1-9][0-9]{0,4}))?")
_SECONDS: Final = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")
_DATABASE: Final = re.compile(r"[0-9]{1,4}")

Kind = Literal["server", "cluster", "sentinel"]


class Place(NamedTuple):
    """Where a server listens. The host is without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Credentials(NamedTuple):
    """What a server is shown. Neither is in the repr."""

    user: str | None
    password: str | None

    def __repr__(self) -> str:
        return "Credentials(…)"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A URL that was read. `shown` is what may be told of it; `options` have no credentials."""

    kind: Kind
    tls: bool
    places: tuple[Place, ...]
    credentials: Credentials
    database: int
    timeout: float
    options: Mapping[str, str]
    shown: str
    master: str = ""
    sentinel: Credentials = field(default=Credentials(None, None))


def read_redis_url(text: str, options: Sequence[str] = (), timeout: float = 1.0) -> RedisUrl:
    """The parts of a URL of one of the schemes. `options` may stand in its query beside what is known here; `timeout` is
    for a URL that says none. Raises ValueError, which says what a URL is like and not what this one was."""
    scheme = text.partition(":")[0].lower()
    if scheme not in _KINDS:
        raise ValueError(
            f"{_LIKE['server']}; redis+cluster:// and redis+sentinel:// are the other schemes of such a URL"
        )
    kind, tls = _KINDS[scheme]
    try:
        if not _PLAIN.fullmatch(text):
            raise ValueError
        parts = urlsplit(text)
        user, password, seeds = _authority(parts.netloc, 26379 if kind == "sentinel" else 6379)
        path = _PATHS[kind].fullmatch(parts.path)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        if path is None or parts.fragment or (kind == "server" and len(seeds) > 1):
            raise ValueError
    except ValueError:
        raise ValueError(_LIKE[kind]) from None
    found = _options(query, (*options, *_OWN[kind], *(_TLS_FILES if tls else ())))
    named = path.groupdict()
    database = _database(found["db"]) if kind == "sentinel" and "db" in found else int(named.get("database") or 0)
    master = named.get("master") or ""
    ends = {"server": f"/{database}", "cluster": "", "sentinel": f"/{master}?db={database}"}
    return RedisUrl(
        kind=kind,
        tls=tls,
        places=seeds,
        credentials=Credentials(user, password),
        database=database,
        timeout=_timeout(found.get("timeout"), timeout),
        options={name: value for name, value in found.items() if kind != "sentinel" or name not in _HIDDEN},
        shown=f"{scheme}://{','.join(map(str, seeds))}{ends[kind]}",
        master=master,
        sentinel=Credentials(found.get("sentinel_user") or None, found.get("sentinel_password") or None)
        if kind == "sentinel"
        else Credentials(None, None),
    )


def slot_of(key: str | bytes) -> int:
    """The slot of a key: the CRC16 (XMODEM) of its hash tag, or of all of it where it has none.

    The hash tag is what stands between the first `{` and the first `}` behind it, if anything does.
    """
    raw = key.encode("utf-8") if isinstance(key, str) else key
    begin = raw.find(b"{")
    if begin >= 0:
        end = raw.find(b"}", begin + 1)
        if end > begin + 1:
            raw = raw[begin + 1 : end]
    return crc_hqx(raw, 0) % SLOTS


def one_slot_of(keys: Sequence[str]) -> int | None:
    """The slot that all these keys are in; None where there are none. Raises ValueError where they are in several, without
    repeating a key: it may hold whose it is."""
    if not keys:
        return None
    slot = slot_of(keys[0])
    for key in keys[1:]:
        other = slot_of(key)
        if other != slot:
            raise ValueError(
                f"the keys of one script are in the slots {slot} and {other} of the cluster, which may be on different "
                "nodes: give all of them the same hash tag, as in {name}:a and {name}:b"
            )
    return slot


def _authority(netloc: str, port: int) -> tuple[str | None, str | None, tuple[Place, ...]]:
    """User, password and places. Raises ValueError."""
    credentials, _, hosts = netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    places = tuple(dict.fromkeys(_place(one, port) for one in hosts.split(",")))
    if len(places) > MAX_SEEDS:
        raise ValueError
    return unquote(user) or None, unquote(password) or None, places


def _place(text: str, port: int) -> Place:
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError
    if found["ipv6"]:
        try:
            IPv6Address(found["ipv6"])
        except AddressValueError:
            raise ValueError from None
    number = int(found["port"] or port)
    if number > 65535:
        raise ValueError
    return Place((found["name"] or found["ipv6"]).lower(), number)


def _options(query: Sequence[tuple[str, str]], known: Sequence[str]) -> dict[str, str]:
    options = dict(query)
    if len(options) < len(query) or not options.keys() <= set(known):
        raise ValueError(f"behind the ? of this URL may stand, once each: {', '.join(known)}")
    return options


def _timeout(text: str | None, default: float) -> float:
    if text is None:
        return default
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"timeout is a number of seconds from {SHORTEST:g} to {LONGEST:g}")
    return seconds


def _database(text: str) -> int:
    if not _DATABASE.fullmatch(text):
        raise ValueError("db, the database of this URL, is a number from 0 to 9999")
    return int(text)
