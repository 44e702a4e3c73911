"""One rule: how much, for whom, counted how. What a rule says by itself, and what `RateLimit` says for its one rule."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from gatekit.core.claims import parse_claim_path
from gatekit.core.counters import Limit
from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_name
from gatekit.core.outcome import Outcome
from gatekit.core.units import Duration
from gatekit.mechanisms.windows import ALGORITHMS, window_of
from gatekit.policies.rate_limit.keys import IDENTITY_KEYS, KeyFunction, check, needs_identity
from gatekit.policies.rate_limit.overrides import kind_of
from gatekit.policies.rate_limit.texts import LARGEST, Amount, amounts

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
CONCURRENCY: Final = "concurrency"
CALENDAR_UNITS: Final = ("day", "week", "month", "year")
OnError = Literal["allow", "deny", "local"]

CostFunction = Callable[[Exchange], int]
ChargeFunction = Callable[[Exchange, Outcome], int]

_TEXTS: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
_TERMS: Final = {"type": "object", "additionalProperties": _TEXTS}
_RATES: Final = tuple(sorted(name for name in ALGORITHMS if name != CONCURRENCY))

Texts = Annotated[tuple[str, ...], WithJsonSchema(_TEXTS)]
Keys = Annotated[tuple[str | Callable[..., Any], ...], WithJsonSchema(_TEXTS)]
Named = Annotated[Mapping[str, Texts], WithJsonSchema(_TERMS)]
Algorithm = Annotated[str, WithJsonSchema({"enum": list(_RATES)})]
Cost = Annotated[int | Callable[..., Any], WithJsonSchema({"type": "integer", "minimum": 0})]
TextOrFunction = Annotated[str | Callable[..., Any] | None, WithJsonSchema({"type": "string"})]


class Quota(NamedTuple):
    """One limit of a rule, parsed: `amount` per `period` seconds, under the name that headers show. `calendar` is the
    unit whose beginnings it follows, None where it follows none."""

    name: str
    amount: int
    period: float
    algorithm: str
    calendar: str | None = None
    sized: bool = False


class Terms(BaseModel):
    """What a rule says."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    limit: Texts
    """How much: one limit or several, one for each period, as text: `100/minute`, `5 per 10 minutes`,
    `10/second;1000/hour`; `20 concurrent` for what is under way at once; with `charge` also bytes, as in `10MiB/minute`;
    or `unlimited`. Units are `second` to `year`; a month is 30 days, unless `calendar` is set."""
    by: Keys = ("client_ip",)
    """Whom a request counts against: `client_ip` (IPv6 by its /64), `user`, `tenant`, `client`, `api_key`, `route`,
    `method`, `global`, `header:NAME`, `claim:PATH`, `param:NAME` (a path parameter), in Python also a function of the
    exchange that gives a text or None; or a list of these, which is their combination. Where a request has no such thing,
    its client's address takes the place."""
    algorithm: Algorithm = "token_bucket"
    """How it is counted: `token_bucket`, `fixed_window`, `sliding_window` or `sliding_log`. What is under way at once is
    counted as it is, whatever is said here."""
    calendar: bool = False
    """Whether days, weeks (from Monday), months and years begin when they begin in `zone`, and what was used is forgotten
    then. Only limits per one of these can."""
    zone: str = "UTC"
    """The time zone of `calendar`, as in `Europe/Zurich`."""
    hold: Duration = 60.0
    """After how long what is under way in a process that was killed is no longer counted against `N concurrent`, in a
    shared store. What a living process has under way is counted to its end, however long that takes."""
    cost: Cost = 1
    """How much of the amount one request takes, in Python also a function of the exchange that gives a whole number. With
    `charge` it is what is set aside until the end, and 0 may be set."""
    charge: TextOrFunction = None
    """What a request turns out to have cost at its end, in place of `cost`: `response_bytes` (of the body, as sent), `header:NAME`
    (a whole number that the upstream reports in that response header, which clients do not get to see), in Python also a
    function of exchange and outcome. It may be more than what was left: then nothing passes until the debt is paid back."""
    shadow: bool = False
    """Whether it only counts: nothing is refused, no header is sent, but events and status tell what would have been."""
    overrides: Named = Field(default_factory=dict)
    """Limits of single callers, in place of `limit`: `tenant:acme`, `tenant:acme-*` (all that begin so), `user:ann`,
    `client:app`, `api_key:reports`, `client_ip:192.0.2.0/24`, `route:orders`. The most specific counts, see below."""
    plans: Named = Field(default_factory=dict)
    """Plan → limits of whoever has it, in place of `limit`."""
    plan: TextOrFunction = None
    """Where a caller's plan is found: `claim:PATH` has its name; `user`, `tenant`, `client` or `api_key` is looked up in
    `plans_from`; in Python also a function of the exchange that gives a name or None. Who has no plan, or one that there
    is not, has `limit`."""
    plans_from: str | None = Field(default=None, min_length=1, max_length=2048, repr=False)
    """A store that says who has which plan, as a URL: `file:///etc/gatekit/plans.yaml`, `redis://host:6379/0`; or
    `env:NAME` and `file:/path` that hold one. It has names of plans, or limits themselves."""

    @field_validator("limit", "by", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, (list, tuple)) else (value,)

    @field_validator("overrides", "plans", mode="before")
    @classmethod
    def _each_one_or_many(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: one if isinstance(one, (list, tuple)) else (one,) for name, one in value.items()}

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
            else:
                _plain_function("a key", part)
        return value

    @field_validator("algorithm")
    @classmethod
    def _is_algorithm(cls, value: str) -> str:
        if value == CONCURRENCY:
            raise ValueError("what is under way at once is limited by text: write limit: 20 concurrent")
        if value not in ALGORITHMS:
            raise ValueError(f"there is no algorithm {value!r}: take one of {', '.join(_RATES)}")
        return value

    @field_validator("cost")
    @classmethod
    def _is_cost(cls, value: Cost) -> Cost:
        if not isinstance(value, int):
            _plain_function("a cost", value)
        elif not 0 <= value <= LARGEST:
            raise ValueError(f"a cost is from 0 to {LARGEST}")
        return value

    @field_validator("charge")
    @classmethod
    def _is_charge(cls, value: TextOrFunction) -> TextOrFunction:
        if isinstance(value, str):
            if value.startswith("header:"):
                encode_name(value[7:])
            elif value != "response_bytes":
                raise ValueError("charge is response_bytes, header:NAME, or in Python a function")
        else:
            _plain_function("a charge", value)
        return value

    @field_validator("plan")
    @classmethod
    def _is_plan(cls, value: TextOrFunction) -> TextOrFunction:
        if isinstance(value, str):
            if value.startswith("claim:"):
                parse_claim_path(value[6:])
            elif value not in IDENTITY_KEYS:
                raise ValueError(
                    f"plan is claim:PATH, one of {', '.join(sorted(IDENTITY_KEYS))}, or in Python a function"
                )
        else:
            _plain_function("a plan", value)
        return value

    @field_validator("plans_from")
    @classmethod
    def _shows_no_password(cls, value: str | None) -> str | None:
        return without_password(value)

    @field_validator("overrides")
    @classmethod
    def _are_callers(cls, value: Named) -> Named:
        for name in value:
            kind_of(name)
        return value

    @model_validator(mode="after")
    def _can_be_kept(self) -> Terms:
        if self.limit:
            self._check_plans()
            for texts in (self.limit, *self.overrides.values(), *self.plans.values()):
                self.read(texts)
        return self

    def _check_plans(self) -> None:
        if self.plan is None and (self.plans or self.plans_from is not None):
            raise ValueError("say with plan where a caller's plan is found: claim:plan, tenant, or a function")
        if self.plan is not None and not self.plans and self.plans_from is None:
            raise ValueError("a plan by name needs plans that have limits, or plans_from that says who has which")
        if isinstance(self.plan, str) and self.plan in IDENTITY_KEYS and self.plans_from is None:
            raise ValueError(f"plan: {self.plan} is looked up in plans_from: give its URL")
        if self.cost == 0 and self.charge is None:
            raise ValueError("a cost of 0 takes nothing, so the limit would never be reached: set charge, or a cost")
        if "zone" in self.model_fields_set and not self.calendar:
            raise ValueError("zone is that of the calendar: set calendar: true with it")
        if self.calendar and self.algorithm != "fixed_window" and "algorithm" in self.model_fields_set:
            raise ValueError("what follows the calendar is counted in fixed windows: leave algorithm out")

    def read(self, texts: Sequence[str]) -> tuple[Quota, ...]:
        """The limits in `texts` on the terms of this rule, none where they say unlimited; the names are spans.

        Raises ValueError on what is no limit, or none that these terms could keep."""
        found = amounts(texts)
        for one in found:
            if one.sized and self.charge is None:
                raise ValueError("a limit of bytes counts what was sent: set charge: response_bytes")
            if isinstance(self.cost, int) and self.cost > one.amount and not one.concurrent:
                raise ValueError(f"no request would ever pass: it costs {self.cost} and {one.amount} is all there is")
            if self.calendar and not one.concurrent and (one.times > 1 or one.unit not in CALENDAR_UNITS):
                raise ValueError(f"a calendar has limits per day, week, month or year, not per {one.span}")
        quotas = tuple(self._quota(one) for one in found)
        for quota in quotas:
            window_of(Limit(quota.amount, quota.period, quota.algorithm))
        return quotas

    def _quota(self, one: Amount) -> Quota:
        if one.concurrent:
            return Quota(one.span, one.amount, self.hold, CONCURRENCY)
        sized = one.sized or self.charge == "response_bytes"
        if self.calendar:
            return Quota(one.span, one.amount, one.period, "fixed_window", one.unit, sized)
        return Quota(one.span, one.amount, one.period, self.algorithm, None, sized)

    def needs_identity(self) -> bool:
        """Whether it can only be told behind identification whom a request counts against, or how much is allowed."""
        planned = isinstance(self.plan, str)
        return planned or needs_identity(self.by) or needs_identity(kind_of(name) for name in self.overrides)


class LimitRule(Terms):
    """A rule among several of one `RateLimit`, which are all or nothing together."""

    name: str | None = None
    """What headers and problem documents call it; with several limits the period is added (`burst-second`). Otherwise it
    is named by what it counts by."""
    on_error: OnError | None = None
    """What happens while a shared store does not answer, where that is not what the policy says."""

    if TYPE_CHECKING:
        # Type checkers know nothing of a limit by position, nor that one may be given where there can be several.
        def __init__(
            self,
            limit: str | Sequence[str],
            /,
            *,
            by: str | KeyFunction | Sequence[str | KeyFunction] = "client_ip",
            algorithm: str = "token_bucket",
            calendar: bool = False,
            zone: str = "UTC",
            hold: float | str = 60.0,
            cost: int | CostFunction = 1,
            charge: str | ChargeFunction | None = None,
            shadow: bool = False,
            overrides: Mapping[str, str | Sequence[str]] | None = None,
            plans: Mapping[str, str | Sequence[str]] | None = None,
            plan: str | KeyFunction | None = None,
            plans_from: str | None = None,
            name: str | None = None,
            on_error: OnError | None = None,
        ) -> None: ...
    else:

        def __init__(self, limit=None, /, **fields):
            super().__init__(**(fields if limit is None else {"limit": limit, **fields}))

    @field_validator("limit")
    @classmethod
    def _is_there(cls, value: Texts) -> Texts:
        amounts(value)
        return value

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        return None if value is None else checked_name(value)


def checked_name(value: str) -> str:
    """Raises ValueError on what headers and stores could not show as a name."""
    if not NAME.fullmatch(value):
        raise ValueError("a name is made of letters, digits, dots, dashes and underscores, 64 at most")
    return value


def without_password(value: str | None) -> str | None:
    """Raises ValueError on a URL that would show a password with the settings."""
    if value is not None and "://" in value and urlsplit(value).password is not None:
        raise ValueError("a password would be shown with the settings: put the URL into the environment, as env:NAME")
    return value


def _plain_function(what: str, function: object) -> None:
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"{what} function is a plain function: it may not wait for anything")


def names_of(rules: Iterable[LimitRule]) -> tuple[str, ...]:
    """The name of each rule: its own, or what it counts by. Raises ValueError where two have the same."""
    found: list[str] = []
    for rule in rules:
        name = rule.name
        if name is None:
            text = "-".join(part if isinstance(part, str) else part.__name__ for part in rule.by)
            name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")[:64] or "rule"
        if name in found:
            raise ValueError(f"two rules are called {name!r}: give each a name of its own")
        found.append(name)
    return tuple(found)
