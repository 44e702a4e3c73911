"""Single flight: many ask for the same thing at once, one fetches it, all get it.

This is only the table of who waits for what. Who runs the call, on which loop or thread, is the runtime's affair; it
makes the call its own task, so that a caller who gives up takes nothing from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

Waiter = Callable[[R | None, BaseException | None], None]
"""Called once with the result, or with None and the error."""


class Flights(Generic[K, R]):
    """The calls in progress, by key.

    A caller asks `begin`: True makes it the leader, who sees to it that `finish` or `fail` is called whatever happens.
    Leader and followers alike `wait`.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: dict[K, list[Waiter[R]]] = {}

    def begin(self, key: K) -> bool:
        """Whether the caller leads: there was no call for that key, and now there is."""
        if key in self._waiters:
            return False
        self._waiters[key] = []
        return True

    def wait(self, key: K, waiter: Waiter[R]) -> None:
        """Call `waiter` when the call in progress ends. Raises KeyError when there is none: `begin` one."""
        self._waiters[key].append(waiter)

    def leave(self, key: K, waiter: Waiter[R]) -> None:
        """Wait no longer. The call goes on for the others; once it has ended this changes nothing."""
        waiters = self._waiters.get(key)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)

    def finish(self, key: K, result: R) -> None:
        """The call brought `result`. Raises KeyError when there is none, ExceptionGroup when waiters raised."""
        self._tell(key, result, None)

    def fail(self, key: K, error: BaseException) -> None:
        """The call raised `error`, which every waiter is handed. Raises as `finish`."""
        self._tell(key, None, error)

    def __contains__(self, key: object) -> bool:
        return key in self._waiters

    def __len__(self) -> int:
        return len(self._waiters)

    def _tell(self, key: K, result: R | None, error: BaseException | None) -> None:
        """Tell every waiter, also after one that raised. The key is free first: a waiter may begin the next call."""
        raised: list[Exception] = []
        for waiter in self._waiters.pop(key):
            try:
                waiter(result, error)
            except Exception as problem:
                raised.append(problem)
        if raised:
            raise ExceptionGroup("waiters of a shared call raised", raised)
