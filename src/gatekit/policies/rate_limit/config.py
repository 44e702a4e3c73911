"""The spec of rate limiting. Its docstrings are the reference documentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from gatekit.core.policy import IDENTITY, Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.rate_limit.keys import IDENTITY_KEYS, KeyFunction, check
from gatekit.policies.rate_limit.local import MAX_KEYS
from gatekit.policies.rate_limit.policy import LocalRateLimitPolicy, RateLimitPolicy

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LARGEST = 10**12
_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}

Texts = Annotated[tuple[str, ...], WithJsonSchema(_TEXTS)]
Keys = Annotated[tuple[str | Callable[..., Any], ...], WithJsonSchema(_TEXTS)]


class Quota(NamedTuple):
    """One limit, parsed: `amount` per `period` seconds, under the name that headers show."""

    name: str
    amount: int
    period: int


class RateLimit(Spec):
    """Answers 429 when a caller asks more often than the limit allows.

    Several limits are all or nothing: a request that one of them refuses consumes nothing of the others. Each is a
    token bucket: the whole amount may come at once, and then comes back evenly. Counts are kept in this process, or
    in the store that the gateway has been given.
    """

    kind: ClassVar[str] = "rate_limit"
    keeps: ClassVar[str] = "how much of each limit is used"
    status: ClassVar[str] = "stable"
    positional: ClassVar[tuple[str, ...]] = ("limit",)

    limit: Texts
    """One limit or several, as text: `100/minute`, `5 per 10 minutes`, `10/second;1000/hour`. One for each period."""
    by: Keys = ("client_ip",)
    """Whom a request counts against: `client_ip` (IPv6 by its /64), `user`, `tenant`, `client`, `route`, `global`,
    `header:NAME`, in Python also a function of the exchange that gives a text or None; or a list of these, which is
    their combination. Where a request has no such thing, its client's address takes the place."""
    name: str = "default"
    """What headers and problem documents call this limit; with several limits the period is added
    (`default-second`)."""
    cost: int = Field(default=1, ge=1)
    """How much of the amount one request takes."""
    on_error: Literal["allow", "deny", "local"] = "local"
    """What happens while a shared store does not answer: `allow` lets everything pass, `deny` answers 503, `local`
    counts in this process, each process for itself with the whole limit."""
    headers: bool = True
    """Whether responses carry `RateLimit-Policy` and `RateLimit`. A 429 has `Retry-After` in any case."""
    max_keys: int = Field(default=MAX_KEYS, ge=1)
    """How many keys are remembered in this process. The least recently used goes first, one that is out of quota goes
    last."""

    if TYPE_CHECKING:
        # Type checkers know nothing of `positional`, nor that one may be given where there can be several.
        def __init__(
            self,
            limit: str | Sequence[str],
            *,
            by: str | KeyFunction | Sequence[str | KeyFunction] = "client_ip",
            name: str = "default",
            cost: int = 1,
            on_error: Literal["allow", "deny", "local"] = "local",
            headers: bool = True,
            max_keys: int = MAX_KEYS,
        ) -> None: ...

    @field_validator("limit", "by", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, (list, tuple)) else (value,)

    @field_validator("by")
    @classmethod
    def _are_keys(cls, value: Keys) -> Keys:
        if not value:
            raise ValueError("name at least one key")
        if len(set(value)) < len(value):
            raise ValueError("a key is named twice")
        for part in value:
            if isinstance(part, str):
                check(part)
            elif inspect.iscoroutinefunction(part):
                raise ValueError("a key function is a plain function: it may not wait for anything")
        return value

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a name is made of letters, digits, dots, dashes and underscores, 64 at most")
        return value

    @model_validator(mode="after")
    def _can_be_kept(self) -> RateLimit:
        for quota in self.quotas():
            if self.cost > quota.amount:
                raise ValueError(f"no request would ever pass: it costs {self.cost} and {quota.amount} is all there is")
        return self

    def quotas(self) -> tuple[Quota, ...]:
        """The limits, parsed. Raises ValueError on text that is no limit, and on two limits for one period."""
        # Late, because the package brings its storages along.
        from limits import parse_many

        found: dict[int, Quota] = {}
        try:
            items = [item for text in self.limit for item in parse_many(text)]
        except ValueError:
            raise ValueError("not a limit: write an amount and a time, as in 100/minute or 5 per 10 minutes") from None
        if not items:
            raise ValueError("give at least one limit")
        for item in items:
            if not 1 <= item.amount <= _LARGEST:
                raise ValueError(f"an amount is from 1 to {_LARGEST}, not {item.amount}")
            period = item.get_expiry()
            if period in found:
                raise ValueError(f"there are two limits for a period of {period} seconds: keep the lower one")
            unit = item.GRANULARITY.name
            span = unit if item.multiples == 1 else f"{item.multiples}-{unit}s"
            found[period] = Quota(self.name if len(items) == 1 else f"{self.name}-{span}", item.amount, period)
        return tuple(found.values())

    def placement(self) -> Placement:
        if IDENTITY_KEYS.intersection(part for part in self.by if isinstance(part, str)):
            return Placement(Stage.LIMIT, requires=frozenset({IDENTITY}))
        return Placement(Stage.LIMIT_ANONYMOUS)

    def bind_to(self, ports: Ports) -> RateLimitPolicy:
        kind = LocalRateLimitPolicy if ports.counters is None else RateLimitPolicy
        return kind(self, ports)
