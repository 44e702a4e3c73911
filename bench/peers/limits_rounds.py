"""Rounds in turn for what decides: CPU in memory; with a server also how long it takes and how often the server is asked."""

from __future__ import annotations

import asyncio
import gc
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from bench.peers.identity_rounds import turns
from bench.peers.limits_ways import Asked


class Took(NamedTuple):
    """Of one decision, in microseconds: CPU of this process, and from asking to answer."""

    cpu: float
    wall: float


async def took(asked: Asked, count: int) -> Took:
    """The mean of so many decisions, one after the other."""
    given, call = asked.ready(count), asked.call
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    if asked.waits:
        for one in given:
            await call(one)
    else:
        for one in given:
            call(one)
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    return Took(cpu / count / 1e3, wall / count / 1e3)


async def refused(asked: Asked, count: int) -> Took:
    """The same for decisions that let nobody through, what is raised included."""
    given, call, refusals = asked.ready(count), asked.call, asked.refusals
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for one in given:
        try:
            found = call(one)
            if asked.waits:
                await found
        except refusals:
            pass
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    return Took(cpu / count / 1e3, wall / count / 1e3)


async def let_in(name: str, asked: Asked) -> None:
    """Raises RuntimeError where it does not let everybody through: a refusal is no figure."""
    for argument in asked.ready(10):
        if not await asked.once(argument):
            raise RuntimeError(f"{name} refuses what it should let in")


async def rounds(cases: Mapping[str, Asked], count: int, times: int, measure: Any = took) -> dict[str, list[Took]]:
    """What each took, round by round, in an order that changes. Each has been asked as often before."""
    found: dict[str, list[Took]] = {name: [] for name in cases}
    for asked in cases.values():
        await measure(asked, count)
    gc.collect()
    gc.freeze()
    for name in turns(list(cases), times):
        found[name].append(await measure(cases[name], count))
    return found


async def together(asked: Asked, count: int, at_once: int) -> float:
    """Decisions a second where so many tasks ask at a time."""
    given = iter(asked.ready(count))

    async def one_after_the_other() -> None:
        for one in given:
            await asked.call(one)

    begun = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return count / (time.perf_counter() - begun)


def middle(found: list[Took], part: str = "cpu") -> float:
    return float(statistics.median(getattr(one, part) for one in found))


def ratio(above: list[Took], below: list[Took], part: str = "cpu") -> float:
    """The median of the ratios within each round."""
    return float(statistics.median(getattr(a, part) / getattr(b, part) for a, b in zip(above, below, strict=True)))


# -- How often a server is asked


class Counting:
    """Passes bytes on between clients and a server, and counts how often a client speaks after the server has answered.

    Questions that are sent together are one trip. A connection's own greetings are before what is counted, if it has
    been used before.
    """

    def __init__(self, port: int) -> None:
        self.trips = 0
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._open += [client, server]
                spoken = [False]
                threading.Thread(target=self._pass, args=(client, server, spoken, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, spoken, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, spoken: list[bool], asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                # A question goes out before its answer can be here, so neither thread is ahead of the other.
                if asks and not spoken[0]:
                    self.trips += 1
                spoken[0] = asks
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def counting(port: int) -> Iterator[Counting]:
    found = Counting(port)
    try:
        yield found
    finally:
        found.close()


async def trips(asked: Asked, counter: Counting, count: int = 20) -> float:
    """Round trips of one decision, once its connection and its scripts are there."""
    given = asked.ready(count + 5)
    for one in given[:5]:
        await asked.once(one)
    before = counter.trips
    for one in given[5:]:
        await asked.once(one)
    return (counter.trips - before) / count


# -- Many callers


async def took_apart(asked: Asked, count: int) -> Took:
    """The same as `took`, but with a turn of the event loop after each, as there is one after each request of a server."""
    given, call = asked.ready(count), asked.call
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for one in given:
        if asked.waits:
            await call(one)
        else:
            call(one)
        await turn_of_the_loop()
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    return Took(cpu / count / 1e3, wall / count / 1e3)


class _Turn:
    def __await__(self) -> Iterator[None]:
        yield


def turn_of_the_loop() -> Any:
    return _Turn()


async def filled(asked: Asked, callers: int) -> None:
    """Everybody has been here once."""
    for one in asked.ready(callers):
        await asked.once(one)


def server_ns(pid: int) -> int:
    """Nanoseconds of CPU that the main thread of a process has had."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])
