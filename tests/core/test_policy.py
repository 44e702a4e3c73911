"""Specs and what becomes of them: positional fields, shorthand, binding, hooks and their guards."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from gatekit.core.exchange import Exchange
from gatekit.core.policy import Hooks, Job, Placement, Spec, Stage, bound, jobs_of
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.errors import MisplacedPolicy, MissingPort


class Limit(Spec):
    """A spec with fields by position, bound to something else."""

    kind: ClassVar[str] = "limit"
    positional: ClassVar[tuple[str, ...]] = ("amount", "name")

    amount: int
    name: str = "n"

    def placement(self) -> Placement:
        return Placement(Stage.LIMIT, requires=frozenset({"identity"}))

    def bind_to(self, ports: Ports) -> object:
        return (self.amount, ports.clock)


class Plain(Spec):
    """A spec that is its own policy."""

    colour: str = "red"

    def decide(self, exchange: Exchange) -> Reply | None:
        return Reply(403, self.colour)


limit: Any = Limit
plain: Any = Plain


def test_fields_by_position_and_by_name() -> None:
    assert limit(3) == limit(amount=3)
    assert limit(3, "x") == limit(3, name="x") == limit(amount=3, name="x")


@pytest.mark.parametrize(
    ("args", "fields", "problem"),
    [
        ((1, "a", 2), {}, r"takes 2 positional argument\(s\) \(amount, name\), not 3"),
        ((1,), {"amount": 2}, "got 'amount' twice"),
    ],
)
def test_fields_given_wrongly(args: tuple[Any, ...], fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        limit(*args, **fields)


def test_a_spec_without_positional_fields_takes_none() -> None:
    with pytest.raises(TypeError, match=r"takes 0 positional argument\(s\) \(none\)"):
        plain("red")


def test_a_spec_that_is_given_an_app_names_the_right_import() -> None:
    def app() -> None: ...

    with pytest.raises(MisplacedPolicy, match=r"gatekit\.asgi\.Limit .* gatekit\.wsgi\.Limit"):
        limit(app)
    # A class is no app here: pydantic says what it thinks of it.
    with pytest.raises(ValidationError):
        limit(int)


def test_a_spec_is_frozen_and_knows_its_fields() -> None:
    spec = limit(3)
    with pytest.raises(ValidationError, match="frozen"):
        spec.amount = 4
    with pytest.raises(ValidationError, match="Extra inputs"):
        limit(3, colour="red")


@pytest.mark.parametrize(
    ("spec", "value", "found"),
    [
        (limit, {"amount": 3, "name": "x"}, limit(3, "x")),
        (limit, 3, limit(3)),
        (plain, None, plain()),
        (plain, {}, plain()),
    ],
)
def test_shorthand_of_a_configuration_file(spec: Any, value: Any, found: Any) -> None:
    assert spec.shorthand(value) == found


def test_shorthand_that_means_nothing() -> None:
    with pytest.raises(ValueError, match="takes a mapping"):
        plain.shorthand("red")
    with pytest.raises(ValidationError, match="amount"):
        limit.shorthand(None)


def test_binding() -> None:
    clock: Any = object()
    assert limit(3).bind(Ports(clock=clock)) == (3, clock)
    assert limit(3).bind(clock=clock) == (3, clock)
    with pytest.raises(MissingPort, match="clock"):
        limit(3).bind()
    with pytest.raises(TypeError, match="not both"):
        limit(3).bind(Ports(), clock=clock)
    spec = plain()
    assert spec.bind() is spec


def test_placement_unless_said_otherwise() -> None:
    assert plain().placement() == Placement(Stage.TRANSFORM)


def test_only_hooks_that_are_there_exist() -> None:
    hooks = bound(plain(), Ports())
    assert (hooks.kind, hooks.placement.stage) == ("Plain", Stage.TRANSFORM)
    assert hooks.decide is not None
    missing = (hooks.on_response, hooks.body_filter, hooks.on_trailers, hooks.observe, hooks.needs_body)
    assert missing == (None,) * 5
    assert not hooks.filters_event_streams
    assert Hooks(limit(3), object()).kind == "limit"


class Guard:
    """Counts how often it was entered, and whether it is held."""

    def __init__(self) -> None:
        self.entered = 0
        self.held = False

    def __enter__(self) -> None:
        self.entered += 1
        self.held = True

    def __exit__(self, *why: object) -> None:
        self.held = False


class Shared:
    """A policy whose state threads share."""

    shares_state = True
    needs_body = 10
    filters_event_streams = True

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.seen: list[bool] = []

    def observe(self, exchange: object, outcome: object) -> None:
        self.seen.append(self.guard.held)

    async def decide(self, exchange: object) -> None:
        self.seen.append(self.guard.held)


def test_plain_hooks_of_shared_state_run_under_a_lock_and_asynchronous_ones_do_not() -> None:
    guard = Guard()
    policy = Shared(guard)
    hooks = Hooks(plain(), policy, lambda: guard)
    anything: Any = None
    assert hooks.observe is not None
    assert hooks.decide is not None
    hooks.observe(anything, anything)
    coroutine: Any = hooks.decide(anything)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert policy.seen == [True, False]
    assert guard.entered == 1
    assert (hooks.needs_body, hooks.filters_event_streams) == (10, True)


def test_nobody_else_pays_for_a_lock() -> None:
    def lock() -> Guard:
        raise AssertionError("no lock was asked for")

    hooks = Hooks(plain(), plain(), lock)
    anything: Any = None
    assert hooks.decide is not None
    assert isinstance(hooks.decide(anything), Reply)


def test_the_jobs_of_a_policy() -> None:
    def run() -> Awaitable[None]:
        raise AssertionError("nobody runs it here")

    job = Job("key", run, lambda: 5.0)

    class Working:
        def jobs(self) -> Iterable[Job]:
            return [job]

    assert list(jobs_of(Working())) == [job]
    assert list(jobs_of(object())) == []
