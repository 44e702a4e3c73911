"""What type checkers take for a rule where one is written in Python: anything that validation takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

if TYPE_CHECKING:
    from gatekit.core.exchange import Exchange
    from gatekit.policies.authz.cel import Cel
    from gatekit.policies.authz.external import External
    from gatekit.policies.authz.model import CertificateTest, Rule
    from gatekit.policies.authz.rules import Outside
    from gatekit.policies.authz.values import ClaimTest, Param, TextTest

    SomeText = str | Iterable[str]
    SomeNames = str | Param | Mapping[str, str] | Sequence[str | Param | Mapping[str, str]]
    Plain = str | int | float | bool
    SomeRule: TypeAlias = "Rule | Mapping[str, Any]"
    SomeRules: TypeAlias = "Sequence[Rule | Mapping[str, Any]]"


class Asked(TypedDict, total=False):
    """The conditions of a rule, by the names of `Conditions`."""

    scopes: SomeText | None
    any_scope: SomeText | None
    roles: SomeText | None
    all_roles: SomeText | None
    subjects: SomeNames | None
    issuers: SomeText | None
    clients: SomeNames | None
    tenants: SomeNames | None
    schemes: SomeText | None
    authenticated: bool | None
    claims: Mapping[str, ClaimTest | Mapping[str, Any] | Plain] | None
    methods: SomeText | None
    paths: SomeText | None
    params: Mapping[str, TextTest | Mapping[str, Any] | str] | None
    headers: Mapping[str, TextTest | Mapping[str, Any] | str] | None
    networks: SomeText | None
    certificate: CertificateTest | Mapping[str, Any] | None
    hours: SomeText | None
    since: object
    until: object
    any: SomeRules | None
    all: SomeRules | None
    not_: SomeRule | None
    external: External | Mapping[str, Any] | None
    cel: Cel | str | Mapping[str, Any] | None
    holds: Callable[[Exchange], bool] | Outside | None
