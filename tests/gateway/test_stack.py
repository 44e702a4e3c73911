"""A middleware's policies: checked, cut where they rewrite, bound with their own state."""

from __future__ import annotations

import pytest

from gatekit.core.policy import IDENTITY, Placement, Spec, Stage
from gatekit.errors import ContractViolation, MisplacedPolicy
from gatekit.gateway.stack import Stack, StackOptions, checked, is_app, runs


class Plain(Spec):
    kind = "plain"


class Rewrites(Spec):
    kind = "rewrites"
    rewrites = True


class Needs(Spec):
    kind = "needs"

    def placement(self) -> Placement:
        return Placement(Stage.AUTHORISE, requires=frozenset({IDENTITY}))


class Provides(Spec):
    kind = "provides"

    def placement(self) -> Placement:
        return Placement(Stage.IDENTIFY, provides=frozenset({IDENTITY}))


def test_runs_end_behind_a_policy_that_rewrites() -> None:
    a, b, c = Plain(), Rewrites(), Plain()
    assert runs([a, b, c]) == [(a, b), (c,)]
    assert runs([a, b]) == [(a, b)]
    assert runs([]) == [()]


def test_a_policy_before_what_it_needs_is_refused_when_built() -> None:
    with pytest.raises(ContractViolation, match="put Provides before Needs"):
        checked([Needs(), Provides()], "asgi")
    assert checked([Provides(), Needs()], "asgi")
    # What stands outside may provide it: that is checked for every request.
    assert checked([Needs()], "asgi")


@pytest.mark.parametrize("wrong", [Plain, object(), "plain"])
def test_what_is_no_spec_is_refused_with_what_to_do(wrong: object) -> None:
    with pytest.raises(MisplacedPolicy, match="Policies"):
        checked([wrong], "asgi")


def test_options_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="none of encoded_slash"):
        Stack([], StackOptions(allow=("colons",)))
    assert Stack([], StackOptions(allow=("semicolon",))).plan.door.allowed_marks == 4


def test_a_spec_is_no_app() -> None:
    assert not is_app(Plain())
    assert not is_app(3)
    assert is_app(print)
