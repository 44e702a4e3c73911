"""A middleware's policies: checked, cut where they rewrite, bound with their own state."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit import ApiKey, Authn, Exchange, Rewrite, api_keys
from gatekit.asgi import Policies
from gatekit.core.policy import IDENTITY, Placement, Spec, Stage
from gatekit.errors import ContractViolation, MisplacedPolicy
from gatekit.gateway.stack import Stack, StackOptions, checked, runs, wrapped
from gatekit.testing import call


class Plain(Spec):
    kind = "plain"


class Rewrites(Spec):
    kind = "rewrites"

    def rewrites(self) -> bool:
        return True


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
    for wrong in (Plain(), 3):
        with pytest.raises(MisplacedPolicy, match=r"gatekit\.asgi\.Policies"):
            wrapped(wrong, wrong, "asgi")
    wrapped(print, print, "asgi")


async def test_a_policy_behind_one_that_rewrites_sees_what_is_served() -> None:
    """An authorisation behind a rewrite must not look at a path that nobody gets; a key in the query is gone."""
    seen: list[tuple[str, bytes]] = []

    class Look(Spec):
        kind = "look"

        def decide(self, exchange: Exchange) -> None:
            seen.append((exchange.path, exchange.query))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["path"], scope["query_string"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    keys = api_keys({"k": ApiKey(secret="s3cret-s3cret", subject="alice")}, query="key")
    stack = Policies(app, Look(), Rewrite(prefix=("/public", "/admin")), Look(), Authn(keys), Look())
    assert (await call(stack, "GET", "/public/x?key=s3cret-s3cret&a=1")).status == 200
    assert seen == [
        ("/public/x", b"key=s3cret-s3cret&a=1"),
        ("/admin/x", b"key=s3cret-s3cret&a=1"),
        ("/admin/x", b"a=1"),
        ("/admin/x", b"a=1"),
    ]
