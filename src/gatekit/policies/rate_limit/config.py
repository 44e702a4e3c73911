"""The spec of rate limiting. Its docstrings are the reference documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field, field_validator, model_validator

from gatekit.core.policy import IDENTITY, Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.rate_limit.keys import KeyFunction
from gatekit.policies.rate_limit.local import MAX_KEYS
from gatekit.policies.rate_limit.local_policy import LocalLimitsPolicy, LocalRateLimitPolicy
from gatekit.policies.rate_limit.policy import RateLimitPolicy
from gatekit.policies.rate_limit.remarks import remarks
from gatekit.policies.rate_limit.rules import (
    ChargeFunction,
    CostFunction,
    LimitRule,
    OnError,
    Quota,
    Terms,
    checked_name,
    names_of,
    without_password,
)
from gatekit.policies.rate_limit.texts import amounts

DEFAULT_NAME = "default"


def _either(schema: dict[str, Any]) -> None:
    """What no single field can say: either one rule, or several."""
    schema.pop("required")
    schema["anyOf"] = [{"required": ["limit"]}, {"required": ["rules"]}]


class RateLimit(Terms, Spec):
    """Answers 429 when a caller asks more often than the limit allows.

    Several limits, of one rule or of several, are all or nothing: a request that one of them refuses consumes nothing of
    the others. Counts are kept in this process, or in a store that several share.

    What says how much whom is allowed belongs to a rule; here it stands for the one rule of the short form. What is asked
    in one step and answered in one reply belongs to all rules: where they are counted, what headers are sent.
    """

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra=_either)

    kind: ClassVar[str] = "rate_limit"
    keeps: ClassVar[str] = "how much of each limit is used, where it has no store"
    status: ClassVar[str] = "stable"
    positional: ClassVar[tuple[str, ...]] = ("limit",)

    rules: tuple[LimitRule, ...] = ()
    """Several rules with keys of their own, in place of `limit` and the other settings of one rule."""
    name: str = DEFAULT_NAME
    """What headers and problem documents call this limit; with several limits the period is added (`default-second`).
    In a shared store everything that has this name there counts together, so there it has to be given."""
    store: str | None = Field(default=None, min_length=1, max_length=2048, repr=False)
    """Where counts are kept that several processes and instances share, as a URL: `redis://host:6379/0`; or `env:NAME`
    and `file:/path` that hold one. Without it each process counts for itself."""
    on_error: OnError = "local"
    """What happens while the store does not answer: `allow` lets everything pass, `deny` answers 503, `local` counts in
    this process, with the limit divided by `instances` and their processes."""
    instances: int = Field(default=1, ge=1, le=100_000)
    """How many instances, of as many processes each as this one has, serve the same callers."""
    divide: bool = False
    """Whether, without a store, each process allows its part of the limit only, by `instances` and their processes.
    Otherwise each allows the whole."""
    near: float = Field(default=0.8, gt=0, le=1)
    """From which part of a limit on a caller is near it, which status and events tell."""
    headers: bool = True
    """Whether responses carry `RateLimit-Policy` and `RateLimit`. A 429 has `Retry-After` in any case."""
    legacy_headers: bool = False
    """Whether they also carry `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds), for the tightest limit."""
    max_keys: int = Field(default=MAX_KEYS, ge=1)
    """How many counters this process keeps. The least recently used goes first, one that is out of quota goes last."""

    if TYPE_CHECKING:
        # Type checkers know nothing of `positional`, nor that one may be given where there can be several.
        def __init__(
            self,
            limit: str | Sequence[str] = (),
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
            rules: Sequence[LimitRule] = (),
            name: str = DEFAULT_NAME,
            store: str | None = None,
            on_error: OnError = "local",
            instances: int = 1,
            divide: bool = False,
            near: float = 0.8,
            headers: bool = True,
            legacy_headers: bool = False,
            max_keys: int = MAX_KEYS,
        ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _has_rules(cls, value: Any) -> Any:
        """With rules, there is no limit that would be required."""
        if isinstance(value, Mapping) and value.get("rules") and "limit" not in value:
            return {**value, "limit": ()}
        return value

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        return checked_name(value)

    @field_validator("store")
    @classmethod
    def _store_shows_no_password(cls, value: str | None) -> str | None:
        return without_password(value)

    @model_validator(mode="after")
    def _is_sound(self) -> RateLimit:
        if self.rules:
            meant = sorted(
                (self.model_fields_set & Terms.model_fields.keys()) - ({"limit"} if not self.limit else set())
            )
            if meant:
                raise ValueError(f"with rules, {' and '.join(meant)} belongs into each of them")
            names_of(self.rules)
        else:
            amounts(self.limit)
        if self.store is not None and self.name == DEFAULT_NAME:
            raise ValueError(
                "with a store, give a name: instances and services that share the store count under it, so it must be the "
                "same for all that share the limit, and for no others"
            )
        if self.store is not None and self.divide:
            raise ValueError("with a store all count together: leave divide out (without it, on_error: local divides)")
        return self

    def named_rules(self) -> tuple[tuple[str, Terms, OnError], ...]:
        """Each rule with its name and what it does without the store."""
        if not self.rules:
            return ((self.name, self, self.on_error),)
        names = names_of(self.rules)
        return tuple((name, rule, rule.on_error or self.on_error) for name, rule in zip(names, self.rules, strict=True))

    def quotas(self) -> tuple[Quota, ...]:
        """The limits of whoever has none of his own, parsed, with the names that headers show."""
        found: list[Quota] = []
        for name, terms, _ in self.named_rules():
            quotas = terms.read(terms.limit)
            found += [one._replace(name=f"{name}-{one.name}" if len(quotas) > 1 else name) for one in quotas]
        return tuple(found)

    def placement(self) -> Placement:
        if any(terms.needs_identity() for _, terms, _ in self.named_rules()):
            return Placement(Stage.LIMIT, requires=frozenset({IDENTITY}))
        return Placement(Stage.LIMIT_ANONYMOUS)

    def remarks(self) -> Iterator[str]:
        return remarks(self)

    def bind_to(self, ports: Ports) -> RateLimitPolicy:
        if not self._is_plain(ports):
            return RateLimitPolicy(self, ports)
        return LocalRateLimitPolicy(self, ports) if len(self.read(self.limit)) == 1 else LocalLimitsPolicy(self, ports)

    def _is_plain(self, ports: Ports) -> bool:
        """Whether it is limits of one rule, the same for everybody, counted here and at once."""
        if self.rules or self.store is not None or ports.counters is not None:
            return False
        quotas = self.read(self.limit)
        special = self.shadow or self.legacy_headers or self.overrides or self.plan is not None
        priced = self.charge is not None or not isinstance(self.cost, int)
        return bool(quotas) and all(one.algorithm != "concurrency" for one in quotas) and not special and not priced


__all__ = ["RateLimit"]
