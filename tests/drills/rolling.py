"""A rolling restart: three instances of `gatekit run` behind a balancer that checks their health, under a steady load.

Neither pytest nor gatekit is imported here: the bench runs it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import Instance, Place, binary_of, free_ports

from .backend import BODY, LONG, backend
from .balancers import CHECK_MS, WHEELS, Balancer
from .load import Load, Tally, pause, until
from .single import CONFIG

TOKEN = "a-token-of-the-drills"


@dataclass
class Restarts:
    """What the clients saw, and how long each instance took to leave and to come back, in seconds."""

    short: Tally
    long: Tally
    leaving: list[float] = field(default_factory=list)
    coming: list[float] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)


def places(count: int = 3) -> list[Place]:
    """Instances that have their ports in common and differ by their loopback addresses."""
    port, admin = free_ports(2)
    return [Place(port, admin, f"127.0.0.{number + 1}") for number in range(count)]


async def rolling(
    server: str,
    balancer: str,
    folder: Path,
    *,
    rate: float = 500.0,
    grace: float = 1.5,
    rounds: int = 1,
    say: Callable[[str], None] = lambda line: None,
    options: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Restarts:
    """Restart each instance once in each round: SIGTERM, its end, a new one, until that is ready and was noticed."""
    binary = binary_of(balancer, WHEELS[balancer])
    assert binary is not None, f"{balancer} is not installed"
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(backend())
        config = folder / "gateway.yaml"
        config.write_text(CONFIG.format(mark="a", url=url))
        at = places()

        def start(place: Place) -> Instance:
            given = ("--grace", f"{grace:g}", "--timeout", "10", *options)
            instance = Instance(
                str(config), folder, place, *given, server=server, env={"GATEKIT_ADMIN_TOKEN": TOKEN, **(env or {})}
            )
            stack.callback(instance.stop)
            return instance

        instances = [start(place) for place in at]
        for instance in instances:
            await asyncio.to_thread(instance.until_ready)
        before = Balancer(balancer, binary, free_ports(1)[0], at, folder)
        stack.callback(before.stop)
        await asyncio.to_thread(before.until_serving)
        await pause(3 * CHECK_MS / 1000)
        short = Load("127.0.0.1", before.port, rate, expected=BODY).start()
        long = Load("127.0.0.1", before.port, 10, path="/long", expected=LONG).start()
        found = Restarts(short.tally, long.tally)
        await pause(0.5)
        for number in [*range(len(at))] * rounds:
            old, began = instances[number], loop.time()
            found.codes.append(await asyncio.to_thread(old.end, grace + 15))
            ended = loop.time()
            assert not old.left(), f"processes outlived their supervisor: {old.left()}"
            instances[number] = start(at[number])
            await asyncio.to_thread(instances[number].until_ready)
            found.leaving.append(ended - began)
            found.coming.append(loop.time() - ended)
            await pause(3 * CHECK_MS / 1000)
            say(f"{at[number].host} restarted: {short.tally.told()}")
        await pause(0.5)
        await asyncio.gather(short.stop(), long.stop())
        assert await until(1, lambda: all(instance.ready() for instance in instances))
    return found
