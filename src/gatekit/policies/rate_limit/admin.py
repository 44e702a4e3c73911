"""What an operator may look at and change: who is near or over a limit, how much is left, and that it be forgotten.

Somebody is named as settings name him: `peek(tenant="acme")`, `reset("daily", user="ann", issuer="https://id.example")`. What
`by` has a prefix for is named by a mapping, `peek({"header:X-Key": "…"})`, and what a function gives, by `key`. All that is
handed back is plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gatekit.core.claims import parse_claim_path
from gatekit.core.counters import Ask, Taken
from gatekit.core.exchange import Exchange
from gatekit.core.headers import Headers, encode_name
from gatekit.core.identity import Identity
from gatekit.policies.rate_limit.counting import Counting
from gatekit.policies.rate_limit.keys import API_KEY, digest
from gatekit.policies.rate_limit.meters import Meter
from gatekit.policies.rate_limit.plans import Allowance

if TYPE_CHECKING:
    from gatekit.policies.rate_limit.setting import Setting
    from gatekit.policies.rate_limit.telling import Telling

_OF_IDENTITY: Final = frozenset({"api_key", "client", "issuer", "tenant", "user"})
_OTHERS: Final = frozenset({"client_ip", "key", "method", "route"})


class _Route:
    __slots__ = ("id",)

    def __init__(self, id: str) -> None:
        self.id = id


class Somebody:
    """A caller whom an operator asks about, with what is said of him."""

    __slots__ = ("client_ip", "headers", "identity", "key", "method", "named", "params", "route")

    def __init__(self, who: Mapping[str, str]) -> None:
        """Raises ValueError on what nobody is named by."""
        claims: dict[str, Any] = {}
        raw: list[tuple[bytes, bytes]] = []
        self.params: dict[str, str] = {}
        for name, value in who.items():
            kind, _, rest = name.partition(":")
            if name.startswith("claim:"):
                *outer, last = parse_claim_path(rest)
                place = claims
                for part in outer:
                    place = place.setdefault(part, {})
                place[last] = value
            elif name.startswith("header:"):
                raw.append((encode_name(rest), value.encode("latin-1", "replace")))
            elif kind == "param":
                self.params[rest] = value
            elif name not in _OF_IDENTITY and name not in _OTHERS:
                known = ", ".join(sorted(_OF_IDENTITY | _OTHERS))
                raise ValueError(f"nobody is named by {name!r}: take {known}, or header:NAME, claim:PATH, param:NAME")
        self.named = frozenset(who)
        self.headers = Headers(raw)
        self.client_ip = who.get("client_ip")
        self.method = who.get("method", "")
        self.key = who.get("key")
        self.route = _Route(who["route"]) if "route" in who else None
        self.identity: Identity | None = None
        if claims or not _OF_IDENTITY.isdisjoint(who):
            by_key = "api_key" in who
            self.identity = Identity(
                who.get("user", ""),
                issuer=who.get("issuer", ""),
                tenant=who.get("tenant"),
                client=who.get("api_key", who.get("client")),
                claims=claims,
                scheme=API_KEY if by_key else "operator",
            )

    def is_counted(self, parts: Sequence[object], *, asked: bool) -> bool:
        """Whether all was said that a rule counts by. What is counted for everybody together is meant where the rule was
        `asked` for by name, or nobody was named."""
        if parts == ("global",):
            return asked or not self.named
        return all(self._has(part) for part in parts)

    def _has(self, part: object) -> bool:
        if not isinstance(part, str):
            return self.key is not None
        return part == "global" or part in self.named


class Admin:
    """The view of one policy."""

    __slots__ = ("_setting", "_telling")

    def __init__(self, setting: Setting, telling: Telling) -> None:
        self._setting = setting
        self._telling = telling

    async def peek(
        self, rule: str | Mapping[str, str] | None = None, /, *who: Mapping[str, str], **known: str
    ) -> list[dict[str, Any]]:
        """What is left for somebody, of each limit that counts by what is said of him; of `rule` only, where that is given.

        Where his plan is not known by what was said, there is one entry for each plan under which he has used something.
        Raises ValueError where no rule counts by what was said, StoreUnavailable."""
        found = []
        for counting, caller, allowances in self._counted(rule, who, known):
            meters = _keyed(_of(allowances), caller)
            answers = await self._take([Ask(key, meter.limit, 0) for key, (meter, _) in meters.items()])
            for (meter, allowance), taken in zip(meters.values(), answers, strict=True):
                if allowance is allowances[0] or taken.remaining < meter.limit.amount:
                    shown = _shown(counting, meter, caller, taken)
                    found.append({**shown, "by": allowance.by, "plan": allowance.plan})
        return found

    async def reset(
        self, rule: str | Mapping[str, str] | None = None, /, *who: Mapping[str, str], **known: str
    ) -> list[str]:
        """Forget what somebody has used, as if it had been nothing, and give the keys that were forgotten. As `peek`."""
        keys: list[str] = []
        for _, caller, allowances in self._counted(rule, who, known):
            keys += await self._reset([meter for meter, _ in _of(allowances)], caller)
        return keys

    async def peek_key(self, key: str) -> dict[str, Any]:
        """What is left under a key that `top` or `peek` gave. Raises ValueError where there is no such key."""
        counting, meter, caller = self._split(key)
        (taken,) = await self._take([Ask(key, meter.limit, 0)])
        return _shown(counting, meter, caller, taken)

    async def reset_key(self, key: str) -> None:
        """Forget what was used under that key. Raises ValueError where there is no such key."""
        _, meter, caller = self._split(key)
        await self._reset((meter,), caller)

    def top(self, n: int = 10) -> list[dict[str, Any]]:
        """Who has used most of his limits, as this process counts them, most first. Nobody, where a shared store counts and
        has not been lost."""
        here = self._setting.here
        if here is None:
            return []
        found = []
        for spender in here.top("", n):
            counting, meter, caller = self._split(spender.key)
            found.append(_shown(counting, meter, caller, spender.taken))
        return found

    def refused(self, n: int = 10) -> list[dict[str, Any]]:
        """Who was refused most often by this process of late, most often first."""
        by_times = sorted(self._telling.refused_callers(), key=lambda one: one[3], reverse=True)
        return [
            {"rule": rule, "limit": meter.name, "key": meter.key(caller), "caller": digest(caller), "refused": times}
            for rule, meter, caller, times in by_times[:n]
        ]

    async def _take(self, asks: Sequence[Ask]) -> Sequence[Taken]:
        local, store = self._setting.local, self._setting.store
        if store is not None and asks:
            return await store.take(asks)
        return () if local is None else local.take_now(asks)

    async def _reset(self, meters: Sequence[Meter], caller: str) -> list[str]:
        asks = list({ask.key: ask for ask in (Ask(meter.key(caller), meter.limit) for meter in meters)}.values())
        if self._setting.store is not None and asks:
            await self._setting.store.reset(asks)
        here = self._setting.here
        if here is not None:
            here.reset_now(asks)
        return [ask.key for ask in asks]

    def _counted(
        self, rule: str | Mapping[str, str] | None, said: Sequence[Mapping[str, str]], known: Mapping[str, str]
    ) -> Iterator[tuple[Counting, str, Sequence[Allowance]]]:
        """The rules that can be asked about somebody, as whom they count him, and what he may have been allowed."""
        who: dict[str, str] = {}
        for one in (*said, known) if rule is None or isinstance(rule, str) else (rule, *said, known):
            who |= one
        name = rule if isinstance(rule, str) else None
        plan = who.get("plan")
        somebody = Somebody({one: value for one, value in who.items() if one != "plan"})
        found = []
        for counting in self._setting.countings:
            if name in (None, counting.name) and somebody.is_counted(counting.parts, asked=name is not None):
                allowances = counting.allowances
                given = allowances.possible(somebody) if plan is None else (allowances.of_plan(plan),)
                found.append((counting, counting.caller(somebody), given))
        if not found:
            rules = ", ".join(f"{one.name} by {one.by}" for one in self._setting.countings)
            raise ValueError(f"no rule counts by what was said: there is {rules}")
        yield from found

    def _split(self, key: str) -> tuple[Counting, Meter, str]:
        for counting in self._setting.countings:
            for meter in counting.allowances.all:
                if key.startswith(meter.before) and key.endswith(meter.after):
                    caller = key[len(meter.before) : len(key) - len(meter.after)]
                    if caller:
                        return counting, meter, caller
        raise ValueError("there is no such key: give one that top or peek gave")


def _of(allowances: Sequence[Allowance]) -> list[tuple[Meter, Allowance]]:
    return [(meter, allowance) for allowance in allowances for meter in allowance.meters]


def _keyed(meters: Sequence[tuple[Meter, Allowance]], caller: str) -> dict[str, tuple[Meter, Allowance]]:
    """Each counter once: plans may have the same limits."""
    found: dict[str, tuple[Meter, Allowance]] = {}
    for meter, allowance in meters:
        found.setdefault(meter.key(caller), (meter, allowance))
    return found


def explained(setting: Setting, exchange: Exchange) -> Iterator[str]:
    """What each rule would count and against which limit, in lines for people. Nothing is taken."""
    for one in setting.countings:
        allowance = one.allowances.find(exchange)
        shadow = " (in shadow)" if one.shadow else ""
        if not allowance.meters:
            yield f"{one.name}{shadow}: unlimited, {_BY[allowance.by]}"
            continue
        limits = ", ".join(_limit(meter) for meter in allowance.meters)
        plan = f" {allowance.plan}" if allowance.plan is not None else ""
        unknown = "; the caller's plan is none that there is" if allowance.unknown else ""
        yield f"{one.name}{shadow}: {limits} by {one.by}, {_BY[allowance.by]}{plan}{unknown}"
        local = setting.local
        if local is not None:
            caller = one.caller(exchange)
            taken = local.take_now([Ask(meter.key(caller), meter.limit, 0) for meter in allowance.meters])
            left = ", ".join(
                f"{answer.remaining} of {meter.name}" for meter, answer in zip(allowance.meters, taken, strict=True)
            )
            yield f"{one.name}{shadow}: left are {left}"


_BY: Final = {"limit": "the limit of the rule", "override": "an override", "plan": "the plan"}


def _limit(meter: Meter) -> str:
    limit = meter.limit
    if meter.concurrent:
        return f"{limit.amount} concurrent"
    every = f"{limit.period:g} s" if limit.calendar is None else limit.calendar.name
    return f"{limit.amount} per {every} ({limit.algorithm})"


def _shown(counting: Counting, meter: Meter, caller: str, taken: Taken) -> dict[str, Any]:
    return {
        "rule": counting.name,
        "limit": meter.name,
        "amount": meter.limit.amount,
        "remaining": taken.remaining,
        "limited": not taken.allowed or not taken.remaining,
        "reset_after": None if meter.concurrent else taken.reset_after,
        "key": meter.key(caller),
        "caller": digest(caller),
    }
