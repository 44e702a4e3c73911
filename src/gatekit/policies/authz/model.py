"""How rules are written: conditions that must all hold, alone or within `any`, `all` and `not`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Unpack

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from gatekit.core.claims import parse_claim_path
from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_name
from gatekit.policies.authz.cel import Cel
from gatekit.policies.authz.external import External
from gatekit.policies.authz.networks import network
from gatekit.policies.authz.rules import Outside
from gatekit.policies.authz.values import (
    ClaimTest,
    Param,
    Scalar,
    TextTest,
    any_matches,
    as_test,
    one_or_many,
    pattern,
)
from gatekit.policies.authz.windows import moment, window
from gatekit.policies.authz.written import Asked
from gatekit.routing.pattern import parse_path

if TYPE_CHECKING:
    from gatekit.policies.authz.written import SomeText

MOST: Final = 10_000
"""The most entries that a list of names, networks or rules has."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")
_FROZEN = ConfigDict(
    frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, populate_by_name=True
)


def _as_text(value: Any) -> Any:
    """YAML makes a date of what looks like one."""
    return value.isoformat() if hasattr(value, "isoformat") else value


def identifier(value: str | None) -> str | None:
    """The id as it is. Raises ValueError on one that a log line would not show as one word."""
    if value is not None and not _ID.fullmatch(value):
        raise ValueError("an id is made of letters, digits, dots, colons, dashes and underscores, 64 at most")
    return value


Word = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=256)]
_Several = Field(min_length=1, max_length=MOST)
Words = Annotated[
    Annotated[tuple[Word, ...], _Several] | None,
    BeforeValidator(one_or_many, json_schema_input_type=Word | Annotated[tuple[Word, ...], _Several]),
]
Scopes = Annotated[
    Annotated[tuple[Scope, ...], _Several] | None,
    BeforeValidator(one_or_many, json_schema_input_type=Scope | Annotated[tuple[Scope, ...], _Several]),
]
Names = Annotated[
    Annotated[tuple[Word | Param, ...], _Several] | None,
    BeforeValidator(one_or_many, json_schema_input_type=Word | Param | Annotated[tuple[Word | Param, ...], _Several]),
]
Rules = Annotated[tuple["Rule", ...], _Several] | None
Denials = Annotated[tuple["Rule", ...], Field(max_length=MOST)] | None
Claims = Annotated[
    Mapping[Word, Annotated[ClaimTest, BeforeValidator(as_test, json_schema_input_type=Scalar | ClaimTest)]], _Several
]
Texts = Annotated[
    Mapping[Word, Annotated[TextTest, BeforeValidator(as_test, json_schema_input_type=str | TextTest)]], _Several
]
Day = Annotated[Word, BeforeValidator(_as_text)]


class CertificateTest(BaseModel):
    """What the client's certificate must be. Several settings must all hold; of several patterns one is enough.

    In a pattern, `*` stands for one label of a DNS name, one segment of a URI, one side of an email address; `**` for
    anything.
    """

    model_config = _FROZEN

    present: bool = False
    """There is one, whatever its names are."""
    dns: Words = None
    """Patterns of which one matches a DNS name of it (subject alternative name)."""
    uris: Words = None
    """Patterns of which one matches a URI of it, as in `spiffe://prod/ns/*`."""
    emails: Words = None
    """Patterns of which one matches an email address of it."""
    common_names: Words = None
    """Patterns of which one matches the common name of its subject. What certificates are made for today stands in the
    other names."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            present: bool = False,
            dns: SomeText | None = None,
            uris: SomeText | None = None,
            emails: SomeText | None = None,
            common_names: SomeText | None = None,
        ) -> None: ...

    @model_validator(mode="after")
    def _says_something(self) -> CertificateTest:
        patterns = self.patterns()
        if self.present is bool(patterns):
            raise ValueError("write names that the certificate must have, or {present: true} alone for any certificate")
        for _, some in patterns:
            any_matches(some)
        return self

    def patterns(self) -> list[tuple[str, list[str]]]:
        """For each kind of name that matters, the regexes of which one must match."""
        kinds = (
            ("DNS", self.dns, ".", True), ("URI", self.uris, "/", False), ("email", self.emails, "@", False),
            ("common", self.common_names, ".", False),
        )  # fmt: skip
        return [(kind, [pattern(one, parts, free) for one in some]) for kind, some, parts, free in kinds if some]


class Conditions(BaseModel):
    """What a rule may ask. Everything that is written must hold.

    What a request has not (a claim, a header, an address, a certificate) satisfies nothing, and an anonymous caller has
    nothing that is asked of callers. Within a `not` it does not help either: in an allow rule it is taken as it is
    worse for the caller.
    """

    model_config = _FROZEN

    scopes: Scopes = None
    """The caller has all of these scopes."""
    any_scope: Scopes = None
    """The caller has one of these scopes."""
    roles: Words = None
    """The caller has one of these roles."""
    all_roles: Words = None
    """The caller has all of these roles."""
    subjects: Names = None
    """The caller is one of these; `{param: user}` stands for the value of a path parameter. A subject is unique within
    its issuer only: with several, name `issuers` too."""
    issuers: Words = None
    """The caller's credential comes from one of these."""
    clients: Names = None
    """The caller's client (OAuth client, id of an API key) is one of these, or a path parameter."""
    tenants: Names = None
    """The caller's tenant is one of these, or a path parameter: `{param: tenant}`."""
    schemes: Words = None
    """The caller was authenticated by one of these methods, as in `api_key`."""
    authenticated: bool | None = None
    """Whether the caller is known at all."""
    claims: Claims | None = None
    """Claim → what it must be: a value; `{param: tenant}` for that of a path parameter; `{one_of: [...]}`,
    `{contains: ...}` for an element of a list, `{prefix: ...}`, `{regex: ...}`, `{at_least: 3}`, `{present: true}`.
    Dots lead into objects (`realm_access.roles`); a URL is one name, and a name that has dots stands in double quotes."""
    methods: Words = None
    """The method is one of these. GET stands for HEAD too."""
    paths: Words = None
    """The path is one of these, written as in a route: `/v1/orders/{id}`, `/admin/*`."""
    params: Texts | None = None
    """Path parameter → what it must be."""
    headers: Texts | None = None
    """Header → what it must be. Clients choose their headers: only what cannot be forged should allow anything."""
    networks: Words = None
    """The client's address, behind trusted proxies, is in one of these networks."""
    certificate: CertificateTest | None = None
    """What the client's certificate must be."""
    hours: Words = None
    """The time is in one of these: `mon-fri 08:00-18:00 Europe/Zurich`. Without a zone it is UTC."""
    since: Day | None = None
    """The time is not before this: `2026-12-31`, `2026-12-31 18:00 Europe/Zurich`."""
    until: Day | None = None
    """The time is before this. Of a date alone the day itself is still within."""
    any: Rules = None
    """One of these holds."""
    all: Rules = None
    """All of these hold."""
    not_: Rule | None = Field(default=None, alias="not")
    """This does not hold. In Python `not_`."""
    external: External | None = None
    """An HTTP service that is asked agrees."""
    cel: Cel | None = None
    """This expression of the Common Expression Language is true."""
    holds: Callable[[Exchange], bool] | Outside | None = None
    """In Python only: a plain function of the exchange that answers True or False, or a condition of your own (`Outside`).
    It must be quick, and may not wait for anything."""

    @field_validator("methods")
    @classmethod
    def _are_methods(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        upper = None if value is None else tuple(one.upper() for one in value)
        for one in upper or ():
            if not _METHOD.fullmatch(one):
                raise ValueError(f"{one!r} is no method")
        return upper

    @field_validator("paths")
    @classmethod
    def _are_paths(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for one in value or ():
            parse_path(one)
        return value

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for one in value or ():
            network(one)
        return value

    @field_validator("hours")
    @classmethod
    def _are_windows(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for one in value or ():
            window(one)
        return value

    @field_validator("since", "until")
    @classmethod
    def _is_moment(cls, value: str | None) -> str | None:
        if value is not None:
            moment(value)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: Texts | None) -> Texts | None:
        for name in value or ():
            encode_name(name)
        return value

    @field_validator("claims")
    @classmethod
    def _are_claims(cls, value: Claims | None) -> Claims | None:
        for name in value or ():
            parse_claim_path(name)
        return value

    @field_validator("any", "all", "not_")
    @classmethod
    def _have_no_ids(cls, value: Any) -> Any:
        for rule in value if isinstance(value, tuple) else () if value is None else (value,):
            if rule.id is not None:
                raise ValueError("only a whole rule has an id, not a part of one")
        return value

    @field_validator("holds", mode="before")
    @classmethod
    def _is_plain(cls, value: Any) -> Any:
        if inspect.iscoroutinefunction(value):
            raise ValueError("a condition is a plain function: it may not wait for anything")
        if not (value is None or callable(value) or isinstance(value, Outside)):
            raise ValueError("a condition is a function of the exchange, or has bind_to and asks (Outside)")
        return value

    def conditions(self) -> dict[str, Any]:
        """What is asked, by name of the setting."""
        names = Conditions.model_fields
        return {name: value for name, value in self.__dict__.items() if value is not None and name in names}

    def within(self) -> tuple[Rule, ...]:
        """The rules that it is made of."""
        return (*(self.any or ()), *(self.all or ()), *(() if self.not_ is None else (self.not_,)))

    def outsides(self) -> Iterator[Outside]:
        """Every condition from outside within it."""
        for one in (self.external, self.cel, self.holds):
            if one is not None and isinstance(one, Outside):
                yield one
        for rule in self.within():
            yield from rule.outsides()


class Rule(Conditions):
    """Conditions that must all hold, under an id that logs and `explain` name."""

    id: str | None = None
    """What it is called. Without one it is named by its place: `allow[0]`."""

    if TYPE_CHECKING:
        # Type checkers do not know what validation makes of what is written.
        def __init__(self, *, id: str | None = None, **asked: Unpack[Asked]) -> None: ...

    @field_validator("id")
    @classmethod
    def _is_id(cls, value: str | None) -> str | None:
        return identifier(value)

    @model_validator(mode="after")
    def _asks_something(self) -> Rule:
        if not self.conditions():
            raise ValueError("a rule without conditions would let everybody pass: write conditions, or public: true")
        return self
