"""Key sets: fixed ones, and those an issuer publishes, which are fetched before anybody needs them and kept when it is down.

A request whose key is known never waits, whatever is being fetched and however old the keys are, up to `stale`. One
with a key id that nobody knows has the set fetched once, by one for all that wait, and not again for `cooldown`
seconds: so a key is taken with the first token that it signed, and who makes up key ids gets nothing fetched by it.

What an issuer publishes is taken or left as a whole. A set without a key that can be used counts as a failure like any
other, also when it was meant: the last good keys stay until they are too old. An empty set is a fault far more often
than a decision, and who has to take all keys back at once can list what is revoked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Mapping
from hashlib import sha256
from math import inf
from typing import Final, Protocol

from gatekit.core.events import KeySetRefreshed, KeySetStale
from gatekit.core.policy import Job
from gatekit.core.ports import Disk, Fetched, Ports
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.discovery import DiscoveryFailed, discover
from gatekit.policies.authn.jose_keys import Key, KeySet, KeySetRefused, read_key_set
from gatekit.policies.authn.key_source import KeySource
from gatekit.policies.authn.keyset_file import read_saved, to_save
from gatekit.policies.authn.keyset_state import UNKNOWN_TTL, Flight, Held, KeyState, lifetime

_log = logging.getLogger("gatekit.authn")

_ACCEPT: Final = [("accept", "application/jwk-set+json, application/json")]
_FAILURES: Final = (StoreUnavailable, DiscoveryFailed, KeySetRefused)
_SECRETS: Final = re.compile(r"(?<=//)[^/@\s]*@|\?\S*|[^ -~]")
_LONGEST_WORDS: Final = 200


class Keys(Protocol):
    """Where the keys are that tokens are verified with."""

    def find(self, kid: str | None, algorithm: str) -> Key | Awaitable[Key | None] | None:
        """The key for a token, None where there is none. What is known is told at once; the awaitable, which asks the
        issuer, may raise StoreUnavailable: then it cannot be told now."""
        ...

    def jobs(self) -> list[Job]: ...

    def status(self) -> Mapping[str, object]: ...


class FixedKeys:
    """Keys out of the configuration."""

    __slots__ = ("_keys",)

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        return self._keys.find(kid, algorithm)

    def jobs(self) -> list[Job]:
        return []

    def status(self) -> Mapping[str, object]:
        return {"keys": len(self._keys), "kids": len(self._keys.kids)}


class RemoteKeys:
    """The keys of an issuer. What is known of them is shared by all that ask the same, and outlives reloads."""

    __slots__ = ("_clock", "_ports", "_source", "_stale", "_state")

    def __init__(self, source: KeySource, ports: Ports) -> None:
        self._source = source
        self._stale = source.stale
        self._ports = ports
        self._clock = ports.clock
        self._state = ports.owned_by("jwks").cell(source.identity, lambda: KeyState(ports.lock()))

    def find(self, kid: str | None, algorithm: str) -> Key | Awaitable[Key | None] | None:
        state, now = self._state, self._clock.monotonic()
        keys = state.usable(now, self._stale)
        if keys is not None:
            key = keys.find(kid, algorithm)
            if key is not None:
                return key
            if algorithm not in self._source.algorithms or state.unknown.get((kid, algorithm), now):
                return None
            if state.flight is None and not state.failures and not state.may_ask(now, self._source.cooldown):
                return None
        return self._asked(kid, algorithm)

    def jobs(self) -> list[Job]:
        """The refresh. With other settings it is another job, over the same keys."""
        return [Job(("jwks", self._source), self._refresh, self._pause)]

    def status(self) -> Mapping[str, object]:
        """Where the key set stands: plain data, and no secret."""
        state, now = self._state, self._clock.monotonic()
        held = state.held
        found: dict[str, object] = {"url": self._source.shown, "keys": 0, "kids": 0, "fetched_at": None, "age": None}
        if held is not None:
            found |= {"keys": len(held.keys), "kids": len(held.keys.kids), "fetched_at": held.fetched_at}
            found["age"] = now - held.at
        return {
            **found,
            "stale": held is None or now - held.at >= held.lifetime,
            "usable": state.usable(now, self._stale) is not None,
            "from_disk": held is not None and held.from_disk,
            "failures": state.failures,
            "last_error": state.last_error,
        }

    async def _asked(self, kid: str | None, algorithm: str) -> Key | None:
        """The key for a token after the issuer was asked, if it may be; None where it is known that there is none."""
        if not self._state.enter():
            raise StoreUnavailable(f"too many requests wait for the key set of {self._source.shown}")
        try:
            return await self._found(kid, algorithm)
        finally:
            self._state.leave()

    async def _found(self, kid: str | None, algorithm: str) -> Key | None:
        state, source = self._state, self._source
        begun, conclusive = state.begun, False
        await self._look_at_disk()
        while True:
            now = self._clock.monotonic()
            keys = state.usable(now, self._stale)
            key = None if keys is None else keys.find(kid, algorithm)
            if key is not None:
                return key
            flight = None if conclusive else state.take_off_for_request(now, source.cooldown, self._stale)
            if flight is None:
                break
            await self._landed(flight)
            # One that began before the question may have come too early for what is asked for.
            conclusive = flight.number > begun
        if keys is None or state.failures:
            raise StoreUnavailable(f"the key set of {source.shown} cannot be had: {state.last_error}")
        if conclusive:
            state.unknown.put((kid, algorithm), True, now, UNKNOWN_TTL)
        return None

    async def _refresh(self) -> None:
        """Fetch what is due."""
        await self._look_at_disk()
        now = self._clock.monotonic()
        if now >= self._state.due:
            await self._landed(self._state.take_off(now))

    def _pause(self) -> float:
        return max(1.0, self._state.due - self._clock.monotonic())

    async def _landed(self, flight: Flight) -> None:
        await self._ports.once((*self._source.identity, flight.number), lambda: self._fly(flight))

    async def _fly(self, flight: Flight) -> None:
        """One attempt. Its failure is written down, not raised."""
        if flight.landed:
            return
        try:
            held, document = await self._fetched()
            kept = self._keep(held, flight)
        except _FAILURES as error:
            self._failed(flight, _words(error))
            return
        except Exception as error:
            self._failed(flight, f"unexpected {type(error).__name__}")
            raise
        finally:
            self._state.land(flight)
        if kept:
            await self._save(held, document)

    async def _fetched(self) -> tuple[Held, bytes]:
        source, state = self._source, self._state
        until = self._clock.monotonic() + source.timeout
        url = source.url or await self._discovered(until)
        try:
            answer = await self._get(url, until)
            if answer.status != 200:
                raise StoreUnavailable(f"the key set was answered with status {answer.status}")
            digest, before = sha256(answer.body).digest(), state.held
            if before is not None and before.digest == digest:
                keys = before.keys
            else:
                keys = read_key_set(answer.body, source.algorithms)
            if not keys:
                raise KeySetRefused("the key set has no key that can be used")
        except _FAILURES:
            if state.discovered is not None:
                # It may have moved: the next attempt looks.
                state.discovered = (state.discovered[0], -inf)
            raise
        # Refreshed in time also where the issuer would have it kept for longer than the operator lets it be used.
        fresh = min(lifetime(answer.headers, source.ttl), source.stale)
        return Held(keys, digest, self._clock.monotonic(), self._clock.wall(), fresh), answer.body

    def _keep(self, held: Held, flight: Flight) -> bool:
        state, before = self._state, self._state.held
        if not state.keep(held, flight, self._ports.random.random()):
            return False
        changed = before is None or before.digest != held.digest
        if changed:
            state.forget_unknown(held.keys.kids, self._source.algorithms)
        self._ports.events.emit(KeySetRefreshed(self._source.shown, len(held.keys), changed))
        return True

    async def _discovered(self, until: float) -> str:
        """The URL that discovery found last, looked for again after `ttl`."""
        source, state = self._source, self._state
        known, now = state.discovered, self._clock.monotonic()
        if known is not None and now - known[1] < source.ttl:
            return known[0]
        try:
            found = await discover(source.name, lambda url: self._get(url, until), http=bool(source.reach.networks))
        except StoreUnavailable:
            if known is None:
                raise
            return known[0]
        state.discovered = (found, now)
        return found

    async def _get(self, url: str, until: float) -> Fetched:
        left = until - self._clock.monotonic()
        if left <= 0:
            raise StoreUnavailable(f"no key set within {self._source.timeout} s")
        return await self._ports.fetch("GET", url, headers=_ACCEPT, timeout=left, reach=self._source.reach)

    def _failed(self, flight: Flight, why: str) -> None:
        state, now = self._state, self._clock.monotonic()
        if state.fail(flight, why, now, self._ports.random.random(), self._stale):
            held, url = state.held, self._source.shown
            _log.warning("the key set of %s cannot be refreshed: %s", url, why)
            self._ports.events.emit(KeySetStale(url, None if held is None else now - held.at, why))

    async def _look_at_disk(self) -> None:
        """Once: take what an earlier process left, where nothing came yet."""
        state, disk = self._state, self._ports.disk
        if state.loaded:
            return
        if disk is None:
            state.loaded = True
        else:
            await self._ports.once((*self._source.identity, "disk"), lambda: self._load(disk))

    async def _load(self, disk: Disk) -> None:
        state = self._state
        try:
            data = None if state.loaded else await disk.load(self._source.file)
            if data is not None:
                self._take(data)
        finally:
            state.loaded = True

    def _take(self, data: bytes) -> None:
        source, state = self._source, self._state
        saved = read_saved(data, source.name, self._clock.wall(), self._stale)
        try:
            keys = None if saved is None else read_key_set(saved.document, source.algorithms)
        except KeySetRefused:
            return
        if saved is not None and keys:
            digest, at = sha256(saved.document).digest(), self._clock.monotonic() - saved.age
            state.keep(Held(keys, digest, at, saved.fetched_at, source.ttl, from_disk=True), None, 0.0)
            state.saved = (digest, saved.fetched_at)

    async def _save(self, held: Held, document: bytes) -> None:
        """Keep what changed for the next process, and what did not before it would be too old for it."""
        state, disk = self._state, self._ports.disk
        digest, fetched_at = state.saved
        if disk is not None and (digest != held.digest or not 0 <= held.fetched_at - fetched_at < self._stale / 24):
            await disk.save(self._source.file, to_save(self._source.name, held.fetched_at, document))
            state.saved = (held.digest, held.fetched_at)


def _words(error: Exception) -> str:
    """What went wrong, without what a URL in it may hold."""
    return _SECRETS.sub("", str(error))[:_LONGEST_WORDS]


__all__ = ["FixedKeys", "KeySource", "Keys", "RemoteKeys"]
