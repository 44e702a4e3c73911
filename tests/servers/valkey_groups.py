"""Real Valkey servers that belong together, each a process on a free loopback port: a cluster, and a master with a
replica and three sentinels. Each of them can be killed, paused and started again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.processes import free_port, free_ports, started
from tests.servers.valkey import Valkey

V = TypeVar("V", bound=Valkey)

SLOTS = 16384
MASTER = "mymaster"
NOTHING_KEPT = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")


class ValkeyCluster:
    """Masters that share the slots evenly, in order, and a replica of each of the first ones. It is whole once the
    constructor has returned, which takes about two seconds, or four with a replica."""

    def __init__(self, folder: Path, masters: int = 3, replicas: int = 0, node_timeout_ms: int = 800) -> None:
        self.nodes: list[Valkey] = []
        try:
            buses = self._start(folder, masters + replicas, node_timeout_ms)
            self._join(buses, masters)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def owner(self, slot: int) -> Valkey:
        """The master that was given this slot at the beginning."""
        return next(node for end, node in self._ends if slot <= end)

    def stop(self) -> None:
        stop_all(self.nodes)

    def _start(self, folder: Path, count: int, node_timeout_ms: int) -> list[int]:
        ports = free_ports(2 * count)
        for number in range(count):
            home = folder / f"node{number}"
            home.mkdir(exist_ok=True)
            self.nodes.append(
                Valkey(
                    home, *NOTHING_KEPT, "--cluster-enabled", "yes", "--cluster-port", str(ports[count + number]),
                    "--cluster-node-timeout", str(node_timeout_ms), "--cluster-replica-validity-factor", "0",
                    port=ports[number],
                )
            )  # fmt: skip
        return ports[count:]

    def _join(self, buses: list[int], masters: int) -> None:
        bounds = [SLOTS * number // masters for number in range(masters + 1)]
        self._ends = [(bounds[number + 1] - 1, self.nodes[number]) for number in range(masters)]
        for number, node in enumerate(self.nodes):
            must(node, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            if number < masters:
                must(node, "CLUSTER", "ADDSLOTSRANGE", str(bounds[number]), str(bounds[number + 1] - 1))
            if number:
                must(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", str(node.port), str(buses[number]))
        known = f"cluster_known_nodes:{len(self.nodes)}\r"
        until_all(self.nodes, lambda node: known in node.text("CLUSTER", "INFO"))
        for number, node in enumerate(self.nodes[masters:]):
            must(node, "CLUSTER", "REPLICATE", self.nodes[number].text("CLUSTER", "MYID"))
        until_all(self.nodes[masters:], lambda node: node.info("master_link_status") == "up")
        until_all(self.nodes, lambda node: "cluster_state:ok" in node.text("CLUSTER", "INFO"))


class Sentinel(Valkey):
    """One sentinel. It writes its own configuration, and begins with it again."""

    def __init__(self, folder: Path, master: int, port: int) -> None:
        self._file = folder / "sentinel.conf"
        if not self._file.exists():
            self._file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n"
                f"sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 1500\n"
            )
        super().__init__(folder, port=port)

    def _arguments(self) -> list[str]:
        return [str(self._file), "--sentinel"]

    def sees_all(self) -> bool:
        """Whether it knows the two others and the replica."""
        return "slaves=1,sentinels=3" in self.text("INFO")

    def names(self) -> int:
        """The port of the master that it names."""
        found = re.search(r"address=127\.0\.0\.1:([0-9]+)", self.text("INFO", "sentinel"))
        return 0 if found is None else int(found[1])


class ValkeySentinels:
    """A master, a replica and three sentinels, which take a master for lost that has said nothing for a second."""

    def __init__(self, folder: Path) -> None:
        self.servers: list[Valkey] = []
        self.sentinels: list[Sentinel] = []
        try:
            for name in ("one", "two"):
                (folder / name).mkdir(exist_ok=True)
                of = ("--replicaof", f"127.0.0.1 {self.servers[0].port}") if self.servers else ()
                self.servers.append(Valkey(folder / name, *NOTHING_KEPT, *of))
            until_all(self.servers[1:], lambda node: node.info("master_link_status") == "up")
            for number in range(3):
                home = folder / f"sentinel{number}"
                home.mkdir(exist_ok=True)
                self.sentinels.append(Sentinel(home, self.servers[0].port, free_port()))
            until_all(self.sentinels, Sentinel.sees_all)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{MASTER}"

    def stop(self) -> None:
        stop_all([*self.sentinels, *self.servers])


def valkey_cluster(folder: Path, masters: int = 3, replicas: int = 0) -> ValkeyCluster:
    """A new cluster, on other ports if somebody took one meanwhile. Fails the test, or skips it, without Valkey."""
    return started("valkey", lambda: ValkeyCluster(fresh(folder), masters, replicas))


def valkey_sentinels(folder: Path) -> ValkeySentinels:
    """A new master with its replica and sentinels, on other ports if somebody took one meanwhile. Fails the test, or
    skips it, without Valkey."""
    return started("valkey", lambda: ValkeySentinels(fresh(folder)))


def fresh(folder: Path) -> Path:
    """A folder in it that is not there yet."""
    for number in range(100):
        with suppress(FileExistsError):
            (folder / f"try{number}").mkdir()
            return folder / f"try{number}"
    raise RuntimeError("a hundred times")


def must(node: Valkey, *words: str) -> None:
    """This command, which is answered with OK."""
    answer = node.ask(*words)
    if answer != b"+OK":
        raise RuntimeError(f"{words}: {answer!r}")


def until_all(nodes: Iterable[V], good: Callable[[V], bool]) -> None:
    """Wait until this holds for each."""
    for node in nodes:
        until(node, partial(good, node))


def until(node: Valkey, good: Callable[[], bool]) -> None:
    """Wait until this holds, as long as this server lives. One that changes its role cuts connections: that is not yet."""

    def held() -> bool | None:
        with suppress(OSError):
            return good() or None
        return None

    node.wait_for(held)


def stop_all(nodes: Iterable[Valkey]) -> None:
    """End each of them, whatever becomes of the others."""
    with ExitStack() as stopping:
        for node in nodes:
            stopping.callback(node.stop)
