"""What work on a large table calls between its parts, and how what it no longer needs is let go.

Such work may run beside an event loop whose requests should not wait for it. What a pause is, and how long, only those
know who started the work: this floor knows no time and no threads.
"""

from __future__ import annotations

from collections.abc import Callable

Pause = Callable[[], None]
"""Called between two parts of the work, thousands of times: one that has nothing to do must cost next to nothing."""


def no_pause() -> None:
    """For work that nobody waits beside."""


def let_go(parts: list[object], pause: Pause) -> None:
    """Empty the list from its end, a part at a time: what nobody else holds is freed piecewise, and not in one go.

    A part that holds another must come after it, or that is freed with it.
    """
    while parts:
        parts.pop()
        pause()


__all__ = ["Pause", "let_go", "no_pause"]
