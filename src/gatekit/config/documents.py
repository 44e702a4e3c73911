"""Documents into one configuration: every finding of all of them is collected, and nothing is half applied.

Several documents add up: their policies and routes follow each other, their clusters stand together. Two that say
the same thing differently (one name for two clusters, two values of a setting) do not: which of them won would depend
on their order, and nobody sees that in either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gatekit.config.cluster import Cluster
from gatekit.config.entries import Unreadable, faults_of, near, read_entry, read_policy
from gatekit.config.findings import findings, unknown_cluster
from gatekit.config.matches import destinations
from gatekit.config.model import GatewayConfig, Route
from gatekit.config.places import Places, found_in
from gatekit.core.plan import Document
from gatekit.core.policy import Spec
from gatekit.errors import ConfigRefused, Problem
from gatekit.routing.pause import Pause, no_pause


def config_from(*sources: Mapping[str, Any] | Document, pause: Pause = no_pause) -> GatewayConfig:
    """The configuration that these documents or mappings make together.

    Entries may also be objects already (`Route`, `Cluster`, specs). Raises ConfigRefused with every finding, errors
    and warnings; the warnings of one that is accepted are in `GatewayConfig.warnings`. `pause` is called between routes.
    """
    gathered = _Gathered(pause)
    for source in sources:
        gathered.add(source if isinstance(source, Document) else Document("", source))
    return gathered.config()


class _Gathered:
    """What the documents have said so far, and what was wrong with it."""

    def __init__(self, pause: Pause) -> None:
        self.pause = pause
        self.places = Places()
        self.problems: list[Problem] = []
        self.policies: list[Spec] = []
        self.routes: list[Route] = []
        self.clusters: dict[str, Cluster] = {}
        self.settings: dict[str, Any] = {}
        self.broken: set[str] = set()
        self.mentioned: list[tuple[Document, str, str]] = []
        self.whole = True

    def add(self, given: Document) -> None:
        # The places that are noted live as long as the configuration; what was written need not.
        document = Document(given.origin, {}, given.revision, given.lines)
        for key, value in given.data.items():
            if key == "policies":
                self._add_policies(document, value)
            elif key == "routes":
                self._add_routes(document, value)
            elif key == "clusters":
                self._add_clusters(document, value)
            elif key in GatewayConfig.model_fields:
                self._add_setting(document, key, value)
            else:
                hint = near(str(key), GatewayConfig.model_fields)
                self._problem(document, str(key), f"there is no such setting{hint}")

    def _add_policies(self, document: Document, value: object) -> None:
        self.places.note("policies", document, "policies")
        for place, item in enumerate(self._list(document, "policies", value)):
            spec = self._policy(document, f"policies[{place}]", item)
            if spec is None:
                self.whole = False
            else:
                self.places.note(f"policies[{len(self.policies)}]", document, f"policies[{place}]")
                self.policies.append(spec)

    def _add_routes(self, document: Document, value: object) -> None:
        for place, item in enumerate(self._list(document, "routes", value)):
            self.pause()
            path = f"routes[{place}]"
            route = item if isinstance(item, Route) else self._route(document, path, item)
            if route is not None:
                self.places.note(f"routes[{len(self.routes)}]", document, path)
                self.routes.append(route)

    def _route(self, document: Document, path: str, item: object) -> Route | None:
        before = len(self.problems)
        specs: list[Spec | None] = []
        if isinstance(item, Mapping) and "policies" in item:
            given = self._list(document, f"{path}.policies", item["policies"])
            specs = [self._policy(document, f"{path}.policies[{place}]", one) for place, one in enumerate(given)]
            item = {**item, "policies": [spec for spec in specs if spec is not None]}
        try:
            route = read_entry(Route, item)
        except Unreadable as unread:
            self._unreadable(document, path, unread)
        else:
            if len(self.problems) == before:
                return route
        self._mentions(document, path, item)
        return None

    def _mentions(self, document: Document, path: str, item: object) -> None:
        """A route that cannot be read leads somewhere all the same."""
        try:
            names = destinations(item.get("to")) if isinstance(item, Mapping) else ()
        except ValueError:
            return
        self.mentioned += [(document, f"{path}.to", name) for name, _ in names]

    def _add_clusters(self, document: Document, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, Mapping):
            self._problem(document, "clusters", "is a mapping of names to clusters")
            return
        for key, item in value.items():
            name, path = str(key), f"clusters.{key}"
            if name in self.clusters or name in self.broken:
                where = self.places.where(f"clusters.{name}")
                self._problem(document, path, f"there is a cluster of that name already ({where}): rename one of them")
                continue
            self.places.note(path, document, path)
            try:
                self.clusters[name] = item if isinstance(item, Cluster) else read_entry(Cluster, item)
            except Unreadable as unread:
                self.broken.add(name)
                self._unreadable(document, path, unread)

    def _add_setting(self, document: Document, key: str, value: object) -> None:
        if key in self.settings and self.settings[key] != value:
            where = self.places.where(key)
            self._problem(document, key, f"something else was said before ({where}): keep one of them")
            return
        self.places.note(key, document, key)
        self.settings[key] = value

    def config(self) -> GatewayConfig:
        config = self._built().examined(self.places, ())
        known = {*config.clusters, *self.broken}
        for document, path, name in self.mentioned:
            if name not in known:
                missing = unknown_cluster(path, name, known)
                self._problem(document, path, missing.message)
        mentioned = {name for _, _, name in self.mentioned}
        found = findings(config, broken=self.broken, mentioned=mentioned, whole=self.whole, pause=self.pause)
        problems = [*self.problems, *(self.places.locate(problem) for problem in found)]
        problems.sort(key=lambda problem: (problem.source or "", problem.line or 0))
        if any(problem.severity == "error" for problem in problems):
            raise ConfigRefused(problems)
        return config.examined(self.places, problems)

    def _built(self) -> GatewayConfig:
        """The model of what could be read; settings and names that it does not take are left out and reported."""
        entries = {"policies": self.policies, "routes": self.routes, "clusters": self.clusters}
        data: dict[str, Any] = {**self.settings, **entries}
        try:
            return GatewayConfig(**data)
        except ValidationError as error:
            for fault in faults_of(error, data, GatewayConfig.model_fields):
                path = fault.where.removeprefix(".")
                self.problems.append(self.places.locate(Problem(path, fault.message)))
                setting, _, name = path.partition(".")
                if setting == "clusters":
                    self.broken.add(name)
                    self.clusters.pop(name, None)
                else:
                    self.settings.pop(setting.partition("[")[0], None)
        return self._built()

    def _list(self, document: Document, path: str, value: object) -> list[Any] | tuple[Any, ...]:
        if value is None:
            return ()
        if isinstance(value, (list, tuple)):
            return value
        self._problem(document, path, "is a list")
        return ()

    def _policy(self, document: Document, path: str, item: object) -> Spec | None:
        try:
            return read_policy(item)
        except Unreadable as unread:
            self._unreadable(document, path, unread)
            return None

    def _unreadable(self, document: Document, path: str, unread: Unreadable) -> None:
        for fault in unread.faults:
            self._problem(document, path + fault.where, fault.message)

    def _problem(self, document: Document, path: str, message: str) -> None:
        self.problems.append(found_in(document, path, message))


__all__ = ["config_from"]
