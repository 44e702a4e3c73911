"""The spec of authorisation. Its docstrings are the reference documentation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Unpack

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from gatekit.core.policy import IDENTITY, Placement, Spec, Stage
from gatekit.core.ports import Ports
from gatekit.policies.authz.model import Conditions, Denials, Rule, Rules, identifier
from gatekit.policies.authz.policy import FACT, AuthzPolicy
from gatekit.policies.authz.remarks import remarks
from gatekit.policies.authz.rules import Outside

if TYPE_CHECKING:
    from gatekit.policies.authz.written import Asked, SomeRules

OUTER: Final = "gateway."
"""What stands before the names of a gateway's rules on a route that has rules of its own."""

ABOUT_THE_CALLER: Final = frozenset(
    {
        "all_roles", "any_scope", "authenticated", "cel", "claims", "clients", "holds", "issuers", "roles",
        "schemes", "scopes", "subjects", "tenants",
    }
)  # fmt: skip
"""The conditions that cannot be told before identification. An authoriser outside may identify callers itself."""

_CHALLENGE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: [ -~]+)?")


class ShadowPolicy(BaseModel):
    """A candidate: rules that are looked at beside those in force, and never enforced.

    What it does not say is as it is in force: with `deny` alone it tells whom a new deny rule would hit. `deny: []` is a
    candidate without deny rules.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    id: str | None = None
    """What it is called. Without one it is named by its place: `shadow[0]`."""
    public: bool = False
    """Everybody is allowed whom no deny rule denies."""
    allow: Rules = None
    """The allow rules it has in place of those in force."""
    deny: Denials = None
    """The deny rules it has in place of those in force."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            id: str | None = None,
            public: bool = False,
            allow: SomeRules | None = None,
            deny: SomeRules | None = None,
        ) -> None: ...

    @field_validator("id")
    @classmethod
    def _is_id(cls, value: str | None) -> str | None:
        return identifier(value)

    @model_validator(mode="after")
    def _can_stand_beside(self) -> ShadowPolicy:
        if not self.public and self.allow is None and self.deny is None:
            raise ValueError("a shadow policy has allow or deny rules, or public: true")
        if self.public and self.allow is not None:
            raise ValueError("public allows everybody: leave out allow, or public")
        _each_once((*(self.allow or ()), *(self.deny or ())))
        for rule in (*(self.allow or ()), *(self.deny or ())):
            if any(one.asks for one in rule.outsides()):
                raise ValueError(
                    "a shadow policy cannot ask somebody outside: every request would wait for an answer that changes "
                    "nothing"
                )
        return self

    @property
    def as_live(self) -> bool:
        """Whether it allows what the policy in force allows."""
        return self.allow is None and not self.public


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, (Mapping, ShadowPolicy)) else value


class Authz(Conditions, Spec):
    """Answers 403 unless a rule allows the request, and whatever a deny rule holds for.

    Conditions that stand here are one allow rule; several rules stand in `allow`, of which one has to hold. A deny rule
    overrides every allow rule. Where nothing is said to be allowed nothing is: that everybody may pass is written as
    `public: true`. The order of rules decides nothing.

    A rule that cannot be evaluated does not allow, and where it is a deny rule it denies.
    """

    kind: ClassVar[str] = "authz"
    keeps: ClassVar[str] = "what its shadow policies would have decided"
    status: ClassVar[str] = "preview"
    positional: ClassVar[tuple[str, ...]] = ()

    public: bool = False
    """Everybody is allowed whom no deny rule denies."""
    allow: Rules = None
    """Rules of which one must hold."""
    deny: Denials = None
    """Rules of which none may hold."""
    shadow: Annotated[
        Annotated[tuple[ShadowPolicy, ...], Field(min_length=1, max_length=16)] | None,
        BeforeValidator(_one_or_several, json_schema_input_type=ShadowPolicy | tuple[ShadowPolicy, ...] | None),
    ] = None
    """Candidates for this policy: what they would have decided is counted and never done."""
    challenge: str = 'Bearer realm="gateway"'
    """The `WWW-Authenticate` of the 401 for a caller who is nobody yet, where logging in may help."""

    if TYPE_CHECKING:
        # Type checkers do not know what validation makes of what is written.
        def __init__(
            self,
            *,
            public: bool = False,
            allow: SomeRules | None = None,
            deny: SomeRules | None = None,
            shadow: ShadowPolicy | Mapping[str, Any] | Sequence[ShadowPolicy | Mapping[str, Any]] | None = None,
            challenge: str = 'Bearer realm="gateway"',
            **asked: Unpack[Asked],
        ) -> None: ...

    _unasked: tuple[Outside, ...] = PrivateAttr(default=())

    @field_validator("challenge")
    @classmethod
    def _is_challenge(cls, value: str) -> str:
        if not _CHALLENGE.fullmatch(value):
            raise ValueError('a challenge is a scheme with its parameters, as in Bearer realm="gateway"')
        return value

    @model_validator(mode="after")
    def _is_one_policy(self) -> Authz:
        conditions = self.conditions()
        if self.allow is not None and conditions:
            raise ValueError(
                f"{', '.join(conditions)} and allow stand beside each other: conditions here are one allow rule, so write "
                "them as one in allow"
            )
        if self.public and (conditions or self.allow is not None):
            raise ValueError("public allows everybody: leave out the other conditions, or public")
        _each_once((*(self.allow or ()), *(self.deny or ())))
        _each_once(self.shadow or ())
        return self

    def allowances(self) -> tuple[Rule, ...]:
        """The allow rules. None where everybody is allowed, or nobody."""
        conditions = self.conditions()
        return (Rule(**conditions),) if conditions else self.allow or ()

    def denials(self) -> tuple[Rule, ...]:
        """The deny rules."""
        return self.deny or ()

    def placement(self) -> Placement:
        """It comes after identification, unless no rule asks who is calling."""
        rules = [*self.allowances(), *self.denials()]
        for one in self.shadow or ():
            rules += [*(one.allow or ()), *(one.deny or ())]
        requires = frozenset({IDENTITY}) if any(map(_asks_who, rules)) else frozenset[str]()
        return Placement(Stage.AUTHORISE, requires=requires, provides=frozenset({FACT}))

    def over(self, outer: Authz) -> Authz:
        """What stands on a route for this policy and the gateway's, `outer`: what this one allows in place of what that
        one allows, unless this one says nothing of it; the deny rules of both; the shadow policies of both."""
        says = bool(self.public or self.allow or self.conditions())
        allows = self if says else outer
        taken = {rule.id for rule in (*(self.allow or ()), *self.denials())}
        outer_deny = _renamed(outer.denials(), "deny", taken)
        allow = allows.allowances() or None
        if not says and allow is not None:
            allow = _renamed(allow, "allow", taken)
        shadow = [
            one if one.deny is None else one.model_copy(update={"deny": (*one.deny, *outer_deny)})
            for one in self.shadow or ()
        ]
        names = {one.id for one in shadow}
        for place, one in enumerate(outer.shadow or ()):
            name = _free(one.id, f"shadow[{place}]", names)
            shadow += _over_candidate(self, one, name, says=says)
        found = type(self)(
            public=allows.public,
            allow=allow,
            deny=(*self.denials(), *outer_deny) or None,
            shadow=tuple(shadow) or None,
            challenge=self.challenge if "challenge" in self.model_fields_set else outer.challenge,
        )
        replaced = outer.allowances() if says else ()
        found._unasked = (*self._unasked, *outer._unasked, *(one for rule in replaced for one in rule.outsides()))
        return found

    def unasked(self) -> tuple[Outside, ...]:
        """Conditions from outside that a gateway's rules have and this route's have not. What only they may tell an
        upstream no client may tell it here either."""
        return self._unasked

    def remarks(self) -> list[str]:
        """What is doubtful about the rules, a sentence for each."""
        return list(remarks(self.allowances(), self.denials(), public=self.public))

    def bind_to(self, ports: Ports) -> AuthzPolicy:
        return AuthzPolicy(self, ports)


def _over_candidate(route: Authz, candidate: ShadowPolicy, name: str, *, says: bool) -> list[ShadowPolicy]:
    """A gateway's candidate on a route: what it would be if it were in force there. None where it would be no other
    policy than the one that is."""
    if says and candidate.deny is None:
        return []
    changes: dict[str, Any] = {"id": name}
    if says:
        changes |= {"allow": None, "public": False}
    if candidate.deny is not None:
        changes["deny"] = (*route.denials(), *candidate.deny)
    return [candidate.model_copy(update=changes)]


def _renamed(rules: Sequence[Rule], kind: str, taken: set[str | None]) -> tuple[Rule, ...]:
    """The gateway's rules, each under a name that tells it from the route's."""
    return tuple(
        rule.model_copy(update={"id": _free(rule.id, f"{kind}[{place}]", taken)}) for place, rule in enumerate(rules)
    )


def _free(given: str | None, place: str, taken: set[str | None]) -> str:
    """The name itself where it is given and free; otherwise what tells that it is the gateway's. It is taken then."""
    name = OUTER + place if given is None else given
    while name in taken:
        name = OUTER + name
    taken.add(name)
    return name


def _asks_who(rule: Rule) -> bool:
    return not ABOUT_THE_CALLER.isdisjoint(rule.conditions()) or any(map(_asks_who, rule.within()))


def _each_once(named: Iterable[Rule | ShadowPolicy]) -> None:
    seen: set[str] = set()
    for one in named:
        if one.id is not None and one.id in seen:
            raise ValueError(f"two have the id {one.id!r}: give each its own")
        seen.add(one.id or "")
