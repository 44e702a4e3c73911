"""What a million revocations cost, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import json, random, sys, tracemalloc
from math import inf
from time import perf_counter, thread_time
from gatekit.mechanisms.denylist import Denylist, Entry
from gatekit.mechanisms.revocation import Revocation, code_of

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

kind, traced, spread = sys.argv[1], sys.argv[2] == "traced", int(sys.argv[3])
now, pick = 1_700_000_000, random.Random(7)
code, issued = code_of(kind, False), float(now) if kind == "sub" else inf
if traced:
    tracemalloc.start()
listed = Denylist(lambda: now)
empty, claims = [], {"jti": "a", "sub": "b", "iat": now}
for _ in range(200):
    begun = perf_counter()
    for _ in range(100):
        listed.revoked(claims)
    empty.append((perf_counter() - begun) / 100)
before, put = resident(), 0.0
# Digests are random numbers of 128 bits; that they are made of something costs the list nothing.
for _ in range(1_000_000):
    entry = Entry(code | pick.getrandbits(128), issued, now + 1 + pick.randrange(spread))
    begun = thread_time()
    listed.put(entry)
    put = max(put, thread_time() - begun)
used = tracemalloc.get_traced_memory()[1] / 1e6 if traced else resident() - before
tracemalloc.stop()
asked = thread_time()
hits = sum(listed.revoked({kind: str(number)}) is not None for number in range(20_000))
asked = (thread_time() - asked) / 20_000
listed.add(Revocation(kind, "v", until=now + 9, before=now if kind == "sub" else None))
hits += listed.revoked({kind: "v"}) is None
now += 2 * spread + 1000
expire, more = 0.0, True
while more:
    begun = thread_time()
    more = listed.expire()
    expire = max(expire, thread_time() - begun)
print(json.dumps({"megabytes": used, "wrong": hits, "asked": asked, "empty": min(empty), "left": len(listed), "put": put,
                  "expire": expire}))
"""


def run(kind: str, how: str, spread: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, how, str(spread)], capture_output=True, text=True, check=True, timeout=110
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "how", "spread"),
    [
        ("jti", "resident", 86_400),
        ("jti", "traced", 86_400),
        ("sub", "resident", 86_400),
        ("jti", "resident", 90 * 86_400),
    ],
    ids=["a day's", "a day's, traced", "issued before", "ninety days'"],
)
def test_an10_a_million_take_no_more_than_150_megabytes_and_never_stop_the_loop(
    kind: str, how: str, spread: int
) -> None:
    """Times are this thread's processor time, and of the empty list the best of many: others may use the machine too."""
    found = run(kind, how, spread)
    assert found["megabytes"] <= 150
    assert found["wrong"] == 0
    assert found["left"] == 0
    if how == "resident":
        assert found["empty"] < 0.3e-6
        assert found["put"] < 0.01
        assert found["expire"] < 0.01
