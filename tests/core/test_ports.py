"""Ports that are missing, and state that outlives a reload."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit.core.events import Events
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.ports import Cells, Ports
from gatekit.errors import MissingPort

ANY: Any = object()


@pytest.mark.parametrize("name", ["clock", "fetch", "random"])
def test_a_port_that_was_not_given_says_so(name: str) -> None:
    with pytest.raises(MissingPort) as caught:
        getattr(Ports(), name)
    assert caught.value.port == name
    assert getattr(Ports(**{name: ANY}), name) is ANY


def test_ports_that_may_be_absent() -> None:
    ports = Ports()
    assert (ports.counters, ports.revocations, ports.owner) == (None, None, "")
    assert isinstance(ports.events, Events)
    with ports.lock():
        pass


def test_a_cell_is_made_once_for_each_owner_and_key() -> None:
    ports = Ports(owner="gateway")
    cell: list[int] = ports.cell("a", list)
    assert ports.cell("a", list) is cell
    assert ports.cell("b", list) is not cell
    other = ports.owned_by("route:orders")
    assert other.cell("a", list) is not cell
    assert other.owner == "route:orders"
    assert ports.used == other.used == {("gateway", "a"), ("gateway", "b"), ("route:orders", "a")}


def test_derived_ports_are_the_same_but_for_owner_and_account() -> None:
    events, cells = Events(), Cells()
    ports = Ports(
        clock=ANY, random=ANY, counters=ANY, fetch=ANY, revocations=ANY, events=events, cells=cells, owner="o"
    )
    for derived in (ports.afresh(), ports.owned_by("p")):
        given: list[Any] = [derived.clock, derived.random, derived.counters, derived.fetch, derived.revocations]
        assert given == [ANY] * 5
        assert (derived.events, derived.cells, derived.lock) == (events, cells, ports.lock)
    ports.cell("a", list)
    afresh = ports.afresh()
    assert afresh.owner == "o"
    assert afresh.used == frozenset()
    assert afresh.cell("a", list) is ports.cell("a", list)


def test_after_a_reload_only_cells_in_use_are_kept() -> None:
    cells = Cells()
    kept: list[int] = cells.get("a", list)
    gone: list[int] = cells.get("b", list)
    kept.append(1)
    cells.retain(["a", "never made"])
    assert len(cells) == 1
    assert "a" in cells
    assert "b" not in cells
    assert cells.get("a", list) is kept
    assert cells.get("b", list) is not gone


def test_an_identity_is_what_frameworks_look_for() -> None:
    ann = Identity("ann", scheme="api_key")
    assert (ann.is_authenticated, ann.display_name, ann.identity) == (True, "ann", "ann")
    assert not ANONYMOUS.is_authenticated
    assert Identity("ann", claims={}) == Identity("ann")
