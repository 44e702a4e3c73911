"""Each algorithm and its twin in Lua, through the same random histories on a real server: the same numbers to the last bit."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from tests.servers.valkey import Valkey, valkey_server

import gatekit.mechanisms.windows as package
from gatekit.core.counters import Limit
from gatekit.mechanisms.calendar import CalendarWindow
from gatekit.mechanisms.windows import ALGORITHMS, State, Window, edges, window_of

pytestmark = pytest.mark.servers

FOLDER = Path(package.__file__).parent
HISTORIES = 1_500
STEPS = 25

# Runs every step of every history, one after the other, and tells all that comes out of it.
HARNESS = """
local twin = (function() %s end)()
local function text(number) return string.format("%%.17g", number) end
local lines = {}
for _, history in ipairs(cjson.decode(ARGV[1])) do
  local limit, state = {amount = tonumber(history.amount), period = tonumber(history.period)}, {}
  if history.edges then
    limit.edges = {}
    for at, edge in ipairs(history.edges) do limit.edges[at] = tonumber(edge) end
  end
  for _, step in ipairs(history.steps) do
    local now, cost, mark = tonumber(step[2]), tonumber(step[3]), tonumber(step[4])
    local line = {}
    if step[1] == "take" then
      local after, allowed, remaining, reset, wait = twin.take(state, now, cost, limit, mark)
      line = {tostring(allowed), text(remaining), text(reset), text(wait)}
      state = after
    else
      state = twin.charge(state, now, cost, limit, mark)
    end
    for _, number in ipairs(state) do line[#line + 1] = text(number) end
    lines[#lines + 1] = table.concat(line, " ")
  end
end
return lines
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    running = valkey_server(tmp_path_factory.mktemp("valkey"))
    yield running
    running.stop()


@dataclass
class Step:
    what: str
    now: float
    cost: int
    mark: int


@dataclass
class History:
    limit: Limit
    steps: list[Step]
    edges: tuple[float, ...] | None = None

    def sent(self) -> dict[str, object]:
        """As JSON. Numbers go as text, of which the server makes doubles itself."""
        sent: dict[str, object] = {
            "amount": str(self.limit.amount), "period": repr(self.limit.period),
            "steps": [[one.what, repr(one.now), str(one.cost), str(one.mark)] for one in self.steps],
        }  # fmt: skip
        if self.edges is not None:
            sent["edges"] = [repr(edge) for edge in self.edges]
        return sent

    def told(self) -> list[str]:
        """What Python makes of it, in the words of the harness."""
        window, lines = window_of(self.limit), []
        state: State = ()
        for step in self.steps:
            state, line = stepped(window, state, step)
            lines.append(line)
        return lines


def stepped(window: Window, state: State, step: Step) -> tuple[State, str]:
    words: list[str] = []
    if step.what == "take":
        state, taken = window.take(state, step.now, step.cost, step.mark)
        words += ["true" if taken.allowed else "false", *map(text, taken[1:])]
    else:
        state = window.charge(state, step.now, step.cost, step.mark)
    return state, " ".join([*words, *map(text, state)])


def text(number: float) -> str:
    return f"{float(number):.17g}"


def random_steps(dice: random.Random, now: float, limit: Limit) -> list[Step]:
    """Times that no binary fraction is near, now and then going back."""
    steps, amount, period = [], limit.amount, limit.period
    for _ in range(STEPS):
        gap = dice.choice((0.0, period / amount, period / 7, period, 2 * period)) * dice.random()
        now += dice.choice((gap, gap, gap, gap, -gap / 9, period))
        what = dice.choice(("take", "take", "take", "charge"))
        cost = dice.choice((0, 1, 1, 2, amount // 2, amount, amount + 1))
        if what == "charge":
            cost = dice.choice((-2, -1, 1, amount, -amount))
        steps.append(Step(what, now, cost, dice.randrange(4)))
    return steps


def ran(server: Valkey, name: str, histories: list[dict[str, object]]) -> list[str]:
    """What the twin makes of them."""
    client = redis.Redis(port=server.port, decode_responses=True)
    try:
        lines: list[str] = client.eval(HARNESS % (FOLDER / f"{name}.lua").read_text(), 0, json.dumps(histories))
    finally:
        client.close()
    return lines


def compare(server: Valkey, name: str, histories: list[History], seed: int) -> None:
    expected = [line for history in histories for line in history.told()]
    assert ran(server, name, [history.sent() for history in histories]) == expected, seed


def test_every_algorithm_has_a_twin() -> None:
    assert {path.stem for path in FOLDER.glob("*.lua")} == set(ALGORITHMS)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_the_twin_decides_alike_to_the_last_bit(server: Valkey, name: str) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    histories = []
    for _ in range(HISTORIES):
        period = dice.choice((1.0, 60.0, 86_400.0, 0.3, dice.uniform(0.01, 1e6)))
        most = 40 if name in ("sliding_log", "concurrency") else dice.choice((10, 1_000, 10**12))
        limit = Limit(dice.randrange(1, most), period, name)
        begin = dice.choice((0.0, 1_000.0, 1.79e9)) + dice.random() * 1e4
        histories.append(History(limit, random_steps(dice, begin, limit)))
    compare(server, name, histories, seed)


def utc(moment: float) -> float:
    return 0.0


def test_by_calendar_the_twin_finds_its_own_window_among_the_edges(server: Valkey) -> None:
    """The edges are those around the clock of whoever asks; the server goes by its own, seconds away."""
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    histories = []
    for unit in ("day", "month"):
        calendar = CalendarWindow(unit, "UTC", utc)
        limit = Limit(7, 86_400.0, "fixed_window", calendar)
        for _ in range(300):
            begin, end = calendar.window(1.7e9 + dice.random() * 1e8)
            # Near the edges, where a skew matters.
            here = dice.choice((begin, end)) + dice.uniform(-9.0, 9.0)
            now, steps = here + dice.uniform(-5.0, 5.0), []
            for _ in range(STEPS):
                now += dice.choice((0.0, 1.0, 3.0, -1.0, 30_000.0 if unit == "day" else 5.0)) * dice.random()
                steps.append(Step(dice.choice(("take", "take", "charge")), now, dice.randrange(-1, 4), 0))
            steps = [one if one.what == "charge" or one.cost >= 0 else Step("take", one.now, 0, 0) for one in steps]
            four = edges(limit, here)
            histories.append(History(limit, [one for one in steps if four[0] <= one.now < four[3]], four))
    compare(server, "fixed_window", histories, seed)


@pytest.mark.parametrize(
    ("now", "reset"),
    [
        pytest.param(40.0, 160.0, id="before all: the first"),
        pytest.param(100.0, 100.0, id="on an edge"),
        pytest.param(299.5, 0.5, id="in the second"),
        pytest.param(350.0, 50.0, id="in the last"),
        pytest.param(450.0, 0.0, id="after all: the last"),
    ],
)
def test_a_time_outside_of_all_edges_is_in_the_nearest_window(server: Valkey, now: float, reset: float) -> None:
    steps = [["take", repr(now), "1", "0"], ["take", "350", "0", "0"]]
    sent: dict[str, object] = {"amount": "5", "period": "100", "edges": ["100", "200", "300", "400"], "steps": steps}
    first, second = ran(server, "fixed_window", [sent])
    assert first.split()[:4] == ["true", "4", text(reset), "0"]
    assert second.split()[1] == ("4" if now > 300.0 else "5")
