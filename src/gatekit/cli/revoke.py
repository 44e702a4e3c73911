"""`gatekit revoke`: what is valid no longer, on every instance that shares the store."""

from __future__ import annotations

import argparse
import asyncio
import os
from datetime import UTC, datetime
from typing import Any, Final

from gatekit.cli import say
from gatekit.core.ports import Ports
from gatekit.core.units import seconds
from gatekit.mechanisms.revocation import What, Which, restoration, revocation
from gatekit.stores import SystemStores

STORE: Final = "GATEKIT_REVOCATIONS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, each with what it means and its default."""
    parser.add_argument(
        "--store", metavar="URL",
        help="where the gateways look: redis://host:6379/0, file:///path, or env:NAME, since a command line is seen by "
        f"others and a URL may hold a password (default: what {STORE} holds)",
    )  # fmt: skip
    what = parser.add_argument_group("what is revoked: one of these, or --issuer alone")
    one = what.add_mutually_exclusive_group()
    one.add_argument("--jti", metavar="ID", help="one token")
    one.add_argument("--subject", metavar="SUBJECT", help="the tokens of a user (`sub`)")
    one.add_argument("--session", metavar="ID", help="the tokens of a session (`sid`)")
    one.add_argument("--client", metavar="CLIENT", help="the tokens of an OAuth client (`client_id`)")
    one.add_argument("--tenant", metavar="TENANT", help="the tokens of a tenant")
    one.add_argument("--all", action="store_true", help="every token; needs --issued-before")
    what.add_argument("--issuer", metavar="ISSUER", help="those of this issuer only; alone, it needs --issued-before")
    what.add_argument(
        "--issued-before", metavar="TIME", help="those only that were issued before: now, or 2030-01-01T00:00:00Z"
    )
    end = parser.add_argument_group("for how long: until the last of these tokens has ended by itself")
    how_long = end.add_mutually_exclusive_group()
    how_long.add_argument("--for", dest="duration", metavar="DURATION", help="from now on: 15m, 1h, 30d")
    how_long.add_argument("--until", metavar="TIME", help="2030-01-01T00:00:00Z")
    how_long.add_argument("--forever", action="store_true", help="without an end, in the memory of every gateway")
    parser.add_argument("--why", default="", metavar="WORDS", help="kept with it, for people")
    parser.add_argument("--restore", action="store_true", help="take back what the same options revoked")


def revoke(options: argparse.Namespace) -> int:
    """Revoke, or take back; exit 1 where there was nothing to take back. Raises ValueError, GatekitError, OSError."""
    from gatekit.gateway.system import SystemClock, SystemRandom

    url = _store(options.store)
    clock = SystemClock()
    now = clock.wall()
    which = _which(options, now)
    until = None if options.restore else _until(options, now)
    what: What = {**which, "until": until, "why": options.why}
    # Before anything is opened, so that what is wrong with the words is told first.
    record = restoration(now, **which) if options.restore else revocation(now, **what)
    try:
        store: Any = SystemStores().revocations(url, Ports(clock=clock, random=SystemRandom()))
    except ImportError as missing:
        raise ValueError(str(missing)) from None
    found = asyncio.run(_told(store, which if options.restore else what, restore=options.restore))
    if not options.restore:
        say(f"revoked: {_shown(record.kind)}, {'for ever' if until is None else f'until {_date(until)}'}")
        return 0
    say(f"taken back: {_shown(record.kind)}" if found else "nothing is revoked by these options", error=not found)
    return 0 if found else 1


async def _told(store: Any, words: Which, *, restore: bool) -> bool:
    try:
        if restore:
            return bool(await store.restore(**words))
        await store.revoke(**words)
        return True
    finally:
        close = getattr(store, "aclose", None)
        if close is not None:
            await close()


def _store(given: str | None) -> str:
    url = given or os.environ.get(STORE) or ""
    if url.startswith("env:"):
        from gatekit.gateway.system import system_secret

        url = system_secret(url)
    if not url:
        raise ValueError(f"say where the gateways look: --store URL, or {STORE} in the environment")
    if url.startswith("memory:"):
        raise ValueError("memory: is within each process: nothing that is revoked from here reaches one")
    return url


def _which(options: argparse.Namespace, now: float) -> Which:
    names = {
        "jti": "jti",
        "sub": "subject",
        "sid": "session",
        "client_id": "client",
        "tenant": "tenant",
        "iss": "issuer",
    }
    found: dict[str, Any] = {
        claim: getattr(options, name) for claim, name in names.items() if getattr(options, name) is not None
    }
    if options.all:
        found["everything"] = True
    if options.issued_before is not None:
        found["issued_before"] = (
            now if options.issued_before == "now" else _time("--issued-before", options.issued_before)
        )
    which: Which = found  # type: ignore[assignment]  # the names are those above
    return which


def _until(options: argparse.Namespace, now: float) -> float | None:
    if options.duration is not None:
        return now + seconds(options.duration)
    if options.until is not None:
        return _time("--until", options.until)
    if not options.forever:
        raise ValueError("say for how long: --for 1h, --until TIME, or --forever, which gateways remember for ever")
    return None


def _time(option: str, text: str) -> float:
    """Seconds since the Unix epoch from a date as in RFC 3339. Raises ValueError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{option} is a time with its offset, as in 2030-01-01T00:00:00Z")
    return found.timestamp()


def _date(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(kind: str) -> str:
    """What it is about, without its value: that may be a person's name."""
    names = {"jti": "a token", "sub": "a subject", "sid": "a session", "client_id": "a client", "iss": "an issuer"}
    return names.get(kind, "everything" if kind == "all" else f"a {kind}")
