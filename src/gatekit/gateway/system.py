"""The ports of a running process: its clock, its randomness, its locks. Tests bring their own instead."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque

from gatekit.core.events import Events
from gatekit.core.ports import Cells, Ports


class SystemClock:
    """The process's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


_SIZE = 16
_BATCH = 256
_tokens: deque[bytes] = deque()
# What a parent has left over must not be given out again by each of its children.
os.register_at_fork(after_in_child=_tokens.clear)


class SystemRandom:
    """`random` for spreading load, `token` from the operating system for what nobody may guess."""

    random = staticmethod(random.random)

    @staticmethod
    def token(size: int) -> bytes:
        """Tokens of the usual size are fetched by the batch: one call of the operating system costs as much as many
        of them. Taking one is atomic, so threads need no lock."""
        if size != _SIZE:
            return os.urandom(size)
        try:
            return _tokens.popleft()
        except IndexError:
            fresh = os.urandom(_SIZE * _BATCH)
            _tokens.extend(fresh[at : at + _SIZE] for at in range(_SIZE, len(fresh), _SIZE))
            return fresh[:_SIZE]


def system_ports(*, events: Events | None = None, cells: Cells | None = None) -> Ports:
    """Ports for production: real time and randomness, in-memory state, locks that threads may contend for."""
    return Ports(clock=SystemClock(), random=SystemRandom(), events=events, cells=cells, lock=threading.Lock)
