"""What the entries of a configuration mean for each other. One function for each question; every answer is kept.

Paths are those of the whole configuration; `GatewayConfig.places` turns them into documents and lines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gatekit.config.entries import near
from gatekit.config.model import GatewayConfig, Route
from gatekit.config.printed import names_secret
from gatekit.config.standing import Standing, kind_of, standing
from gatekit.core.contracts import in_stage_order, violations
from gatekit.core.policy import Spec
from gatekit.errors import Problem
from gatekit.routing.matcher import Rule
from gatekit.routing.pause import Pause, no_pause
from gatekit.routing.reachability import examine

ANSWERING = frozenset({"redirect", "respond"})
"""Kinds of policies that answer themselves, so that their route needs no cluster."""


def findings(
    config: GatewayConfig,
    *,
    broken: Collection[str] = (),
    mentioned: Collection[str] = (),
    whole: bool = True,
    pause: Pause = no_pause,
) -> list[Problem]:
    """Everything that is wrong or doubtful with the configuration as a whole, errors and warnings.

    `broken` are names of clusters that are there and could not be read, `mentioned` those that routes which could not
    be read lead to. `whole` is False when a policy of the gateway could not be read: then nothing is said of order.
    `pause` is called between routes.
    """
    found = [
        *_names(config, pause),
        *_references(config, broken, pause),
        *_unused(config, mentioned),
        *_leads_nowhere(config, pause),
        *_weightless(config, pause),
    ]
    if whole:
        found += _order(config, pause)
        found += _remarks(config, pause)
    return [*found, *_reachable(config, pause)]


def _names(config: GatewayConfig, pause: Pause) -> Iterator[Problem]:
    """Does every route have a name of its own? Logs, metrics and kept state go by it."""
    seen: dict[str, int] = {}
    for place, route in enumerate(config.routes):
        pause()
        first = seen.setdefault(route.id, place)
        if first != place:
            where = config.places.where(f"routes[{first}]")
            hint = "give it another name" if route.name else "give it a name"
            yield Problem(f"routes[{place}]", f"is called {route.id!r}, as is {where}: {hint}")


def _references(config: GatewayConfig, broken: Collection[str], pause: Pause) -> Iterator[Problem]:
    """Is there every cluster that a route leads to?"""
    known = {*config.clusters, *broken}
    for place, route in enumerate(config.routes):
        pause()
        for name, _ in route.to:
            if name not in known:
                yield unknown_cluster(f"routes[{place}].to", name, known)


def unknown_cluster(path: str, name: str, known: Collection[str]) -> Problem:
    """The finding that a route leads to a cluster that there is not."""
    return Problem(path, f"there is no cluster {name!r}{near(name, known)}")


def _unused(config: GatewayConfig, mentioned: Collection[str]) -> Iterator[Problem]:
    """Is every cluster led to?"""
    used = {name for route in config.routes for name, _ in route.to} | set(mentioned)
    for name in config.clusters:
        if name not in used:
            yield Problem(f"clusters.{name}", "no route leads to this cluster", severity="warning")


def _leads_nowhere(config: GatewayConfig, pause: Pause) -> Iterator[Problem]:
    """Does something answer the requests of every route?"""
    for place, route in enumerate(config.routes):
        pause()
        if not route.to and not any(answers(spec) for spec in (*config.policies, *route.policies)):
            yield Problem(
                f"routes[{place}]", "leads nowhere: say which cluster by `to`, or add a policy that answers (respond)"
            )


def answers(spec: Spec) -> bool:
    """Whether a policy answers requests itself: by its kind, or because its class says `answers = True`."""
    return spec.kind in ANSWERING or getattr(type(spec), "answers", False) is True


def _weightless(config: GatewayConfig, pause: Pause) -> Iterator[Problem]:
    """Does a split have any weight?"""
    for place, route in enumerate(config.routes):
        pause()
        if route.to and not any(weight for _, weight in route.to):
            yield Problem(
                f"routes[{place}].to", "every weight is 0: requests are answered with 500", severity="warning"
            )


def _order(config: GatewayConfig, pause: Pause) -> Iterator[Problem]:
    """Does every policy have before it what it needs? For requests without a route, and for those of each route."""
    alone = violations(in_stage_order(config.policies), complete=True)
    for sentence in alone:
        yield Problem("policies", sentence)
    for place, route in enumerate(config.routes):
        pause()
        if route.policies:
            for sentence in violations(in_stage_order([*config.policies, *route.policies]), complete=True):
                if sentence not in alone:
                    yield Problem(f"routes[{place}].policies", sentence)


def _remarks(config: GatewayConfig, pause: Pause) -> Iterator[Problem]:
    """What do the policies that stand on a route find doubtful about themselves?"""
    shared = [(kind_of(spec), sentence) for spec in config.policies for sentence in spec.remarks()]
    for place, route in enumerate(config.routes):
        pause()
        try:
            stands = standing(config.policies, route.policies)
        except ValueError:
            # Compiling says so, and nothing is to be said of what stands there.
            stands = Standing((), frozenset(map(kind_of, config.policies)))
        for kind, sentence in shared:
            if kind not in stands.taken:
                yield Problem(f"routes[{place}]", f"{kind} of the gateway: {sentence}", severity="warning")
        for spec in stands.own:
            for sentence in spec.remarks():
                yield Problem(f"routes[{place}].policies", f"{kind_of(spec)}: {sentence}", severity="warning")


def _reachable(config: GatewayConfig, pause: Pause) -> Iterator[Problem]:
    """Can every route be reached, and is it clear which of two is meant?"""
    routes: dict[str, tuple[int, Route]] = {}
    for place, route in enumerate(config.routes):
        pause()
        routes.setdefault(route.id, (place, route))
    for finding in examine((_rule(route, pause) for _, route in routes.values()), pause):
        path, message = "routes", finding.message
        if finding.rule_id in routes:
            place, route = routes[finding.rule_id]
            path, message = f"routes[{place}]", _without_secrets(message, route)
        if finding.other_id is not None:
            message = _without_secrets(message, routes[finding.other_id][1])
        yield Problem(path, message, severity=finding.severity)


def _rule(route: Route, pause: Pause) -> Rule[None]:
    pause()
    return route.rule(None)


def _without_secrets(message: str, route: Route) -> str:
    """The message without values that this route looks for in headers and the like which hold secrets: the example of
    a request has them."""
    for matches in (route.headers, route.query, route.cookies):
        for name, match in matches.items():
            if match.value and names_secret(name):
                message = message.replace(match.value, "<secret>")
    return message


__all__ = ["ANSWERING", "answers", "findings", "unknown_cluster"]
