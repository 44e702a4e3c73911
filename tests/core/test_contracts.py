"""Order as checked data: sorted by stage, and sentences about what does not hold."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gatekit.core.contracts import in_stage_order, violations
from gatekit.core.policy import IDENTITY, Placement, Spec, Stage


class Who(Spec):
    def placement(self) -> Placement:
        return Placement(Stage.IDENTIFY, provides=frozenset({IDENTITY}))


class May(Spec):
    def placement(self) -> Placement:
        return Placement(Stage.AUTHORISE, requires=frozenset({IDENTITY}))


class Paid(Spec):
    def placement(self) -> Placement:
        return Placement(Stage.LIMIT, requires=frozenset({IDENTITY, "plan"}), provides=frozenset({"paid"}))


class Stamp(Spec):
    number: int


def test_sorting_by_stage_keeps_the_order_within_one() -> None:
    first, second, who, may = Stamp(number=1), Stamp(number=2), Who(), May()
    assert in_stage_order([first, may, second, who]) == [who, may, first, second]


@pytest.mark.parametrize(
    ("specs", "complete", "sentences"),
    [
        pytest.param([Who(), May()], True, [], id="in order"),
        pytest.param([], True, [], id="nothing"),
        pytest.param([May()], False, [], id="somebody outside may provide it"),
        pytest.param(
            [May()],
            True,
            ["May needs 'identity' and no policy here provides it: add one that does (Authn, for example)"],
            id="nobody provides it",
        ),
        pytest.param(
            [May(), Who()],
            False,
            ["May needs 'identity', which Who provides only after it: put Who before May"],
            id="too late, also within a stack",
        ),
        pytest.param(
            [Who(), Paid()],
            True,
            ["Paid needs 'plan' and no policy here provides it: add one that does (provides={'plan'})"],
            id="a fact of one's own",
        ),
        pytest.param([Paid(), Who()], False, ["Paid needs 'identity', which Who provides only after it: put Who before Paid"], id="one of two"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_said_with_what_to_do(
    specs: Sequence[Spec], complete: bool, sentences: list[str]
) -> None:
    assert violations(specs, complete=complete) == sentences
