"""What survives a reload. State is kept by identity: whom it belongs to (`gateway`, `route:orders`,
`cluster:orders`) and the settings it was asked for with. What is asked for again is found as it was left; what nobody
asks for any more is forgotten, once the last request of the generations that did has ended.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from gatekit.config.snapshot import Snapshot


def still_used(snapshots: Iterable[Snapshot]) -> frozenset[Hashable]:
    """The keys of all state that these generations, the one in force and those with requests under way, asked for:
    what `Cells.retain` is to keep."""
    return frozenset[Hashable]().union(*(snapshot.used for snapshot in snapshots))


__all__ = ["still_used"]
