"""Does the time that a wrong API key takes tell how much of it is right?  `python bench/key_timing.py`

Wrong keys of several kinds, made in mixed order, are asked about in a new order each round, and each is compared with the
same round's key of which nothing but the prefix is right. Two kinds that are the same show what the measurement itself is
worth. It reports, and gates nothing: what is done for each key is counted in the tests.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import sys
import time
from collections.abc import Callable

from gatekit.core.exchange import Exchange
from gatekit.policies.authn import api_keys, new_api_key
from gatekit.policies.authn.key_hash import ALPHABET, checksum
from gatekit.testing import SeededRandom, request, test_ports

KEYS = 1_000
EACH = 300
KEPT = 0.95
"""Share of the times that are compared: the longest are those of somebody else's turn on the processor."""

_chance = random.Random(7)  # noqa: S311 - the same keys in every run
_keys = [new_api_key(SeededRandom(place).token) for place in range(KEYS)]


def other(character: str) -> str:
    return _chance.choice([one for one in ALPHABET if one != character])


def wrong(prefix: int, secret: int) -> str:
    """A key with a good checksum, of whose prefix and secret so many first characters are those of a real one."""
    key = _chance.choice(_keys)
    text = key.text[14:46]
    first = key.prefix[:prefix] + "".join(map(other, key.prefix[prefix:]))
    body = f"gk_{first}_{text[:secret]}{''.join(map(other, text[secret:]))}"
    return body + checksum(body.encode())


KINDS: dict[str, Callable[[], str]] = {
    "prefix right, secret wrong": lambda: wrong(10, 0),
    "the same again": lambda: wrong(10, 0),
    "16 of 32 of the secret right": lambda: wrong(10, 16),
    "31 of 32 of the secret right": lambda: wrong(10, 31),
    "prefix unknown": lambda: wrong(0, 32),
    "prefix unknown, 9 of 10 right": lambda: wrong(9, 32),
}


def measured(rounds: int) -> dict[str, list[int]]:
    """The times of each kind, in ns, one for each round."""
    method = api_keys({f"key-{place}": key.hash for place, key in enumerate(_keys)})
    bound = method.bind_to(test_ports(), "gateway", lambda identity: [])
    pools: dict[str, list[Exchange]] = {name: [] for name in KINDS}
    todo = [name for name in KINDS for _ in range(EACH)]
    _chance.shuffle(todo)
    for name in todo:
        pools[name].append(request(headers={"X-Api-Key": KINDS[name]()}))
    times: dict[str, list[int]] = {name: [] for name in KINDS}
    order, now = list(KINDS), time.perf_counter_ns
    gc.disable()
    for _ in range(rounds):
        _chance.shuffle(order)
        for name in order:
            exchange = _chance.choice(pools[name])
            begun = now()
            bound.identify(exchange)
            times[name].append(now() - begun)
    gc.enable()
    return times


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
    times = measured(rounds)
    first, *rest = times
    base = times[first]
    longest = sorted(base)[int(rounds * KEPT)]
    lines = [f"{rounds} rounds, {first}: median {statistics.median(base):.0f} ns"]
    for name in rest:
        cut = sorted(times[name])[int(rounds * KEPT)]
        pairs = zip(base, times[name], strict=True)
        gaps = [theirs - ours for ours, theirs in pairs if ours <= longest and theirs <= cut]
        mean, error = statistics.mean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))
        lines.append(f"{name:32} {mean:+7.1f} ns, 95 %: {mean - 1.96 * error:+.1f} to {mean + 1.96 * error:+.1f}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
