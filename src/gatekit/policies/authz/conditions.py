"""Conditions on the request: method, path parameters, headers, address, certificate, time. And how all are compiled.

Each is made once from its settings and gives a `Part`: a closure over what it needs, and words without a value of the
request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gatekit.core import certificate
from gatekit.core.exchange import Exchange
from gatekit.core.headers import encode_name
from gatekit.core.ports import Ports
from gatekit.policies.authz import callers
from gatekit.policies.authz.networks import within
from gatekit.policies.authz.rules import Outside, Part, Verdict, all_of, any_of, negated
from gatekit.policies.authz.site import Site
from gatekit.policies.authz.values import TextTest, any_matches, no_param, passes
from gatekit.policies.authz.windows import DAY, moment, window, zone_of
from gatekit.routing.pattern import parse_path

if TYPE_CHECKING:
    from gatekit.policies.authz.model import CertificateTest, Conditions


def compiled(asked: Conditions, site: Site) -> Part:
    """What was asked for as one condition: everything in it must hold."""
    parts: list[Part] = []
    if asked.methods:
        parts.append(methods(asked.methods))
    if asked.paths:
        parts.append(paths(asked.paths))
    parts += _of_the_caller(asked, site)
    parts += [param(name, test, site) for name, test in (asked.params or {}).items()]
    parts += [header(name, test, site) for name, test in (asked.headers or {}).items()]
    if asked.networks:
        parts.append(networks(asked.networks, site))
    if asked.certificate is not None:
        parts.append(client_certificate(asked.certificate, site))
    parts += _of_the_time(asked, site.ports)
    if asked.all:
        parts.append(all_of([compiled(one, site) for one in asked.all], site.note))
    if asked.any:
        parts.append(any_of([compiled(one, site.without_grants()) for one in asked.any], site.note))
    if asked.not_ is not None:
        parts.append(negated(compiled(asked.not_, site.within_not()), site.note))
    if asked.holds is not None:
        parts.append(custom(asked.holds, site))
    parts += [outside(one, site) for one in (asked.cel, asked.external) if one is not None]
    return all_of(parts, site.note)


def _of_the_caller(asked: Conditions, site: Site) -> list[Part]:
    parts: list[Part] = []
    if asked.authenticated is not None:
        parts.append(callers.authenticated(asked.authenticated))
    for given, make in (
        (asked.scopes, callers.scopes), (asked.any_scope, callers.any_scope), (asked.roles, callers.roles),
        (asked.all_roles, callers.all_roles), (asked.issuers, callers.issuers), (asked.schemes, callers.schemes),
    ):  # fmt: skip
        if given:
            parts.append(make(given, site))
    for attribute, names in (("subject", asked.subjects), ("client", asked.clients), ("tenant", asked.tenants)):
        if names:
            parts.append(callers.named(attribute, names, site))
    return parts + [callers.claim(name, test, site) for name, test in (asked.claims or {}).items()]


def _of_the_time(asked: Conditions, ports: Ports) -> list[Part]:
    parts: list[Part] = []
    if asked.hours:
        parts.append(hours(asked.hours, ports))
    if asked.since is not None:
        parts.append(since(asked.since, ports))
    if asked.until is not None:
        parts.append(until(asked.until, ports))
    return parts


def methods(wanted: Sequence[str]) -> Part:
    """GET stands for HEAD too, as in a route."""
    accepted = frozenset(wanted) | ({"HEAD"} if "GET" in wanted else frozenset())
    return Part(lambda exchange: exchange.method in accepted, f"the method is {' or '.join(wanted)}")


def paths(wanted: Sequence[str]) -> Part:
    """The path is the canonical one, which is also what is matched and sent on."""
    patterns = [parse_path(one) for one in wanted]
    exact = frozenset(one.text for one in patterns if one.kind == "exact")
    others = tuple(one.match for one in patterns if one.kind != "exact")

    def decide(exchange: Exchange) -> bool:
        path = exchange.path
        return path in exact or any(match(path) is not None for match in others)

    return Part(decide, f"the path is {' or '.join(wanted)}")


def param(name: str, test: TextTest, site: Site) -> Part:
    checks, missing, absent = tuple(test.checks()), site.missing, bool(test.absent)
    gone = absent or (missing and not test.present)

    def decide(exchange: Exchange) -> bool:
        value = exchange.params.get(name)
        return gone if value is None else not absent and passes(checks, value, exchange, missing)

    named = () if test.present or test.absent else (name, *test.params())
    return Part(
        decide, test.words(f"the path parameter {name}"), lacks=lambda exchange: no_param(named, exchange)
    )  # fmt: skip


def header(name: str, test: TextTest, site: Site) -> Part:
    """Of a header that comes more than once, some readers take the first value and some the last: it is counted against
    the caller. In an allow rule every value must pass, in a deny rule one is enough; within a `not` the reverse."""
    raw, checks = encode_name(name), tuple(test.checks())
    missing, every, absent = site.missing, site.every, bool(test.absent)
    gone = absent or (missing and not test.present)

    def decide(exchange: Exchange) -> bool:
        values = [value for key, value in exchange.headers.raw if key == raw]
        if not values:
            return gone
        if absent:
            return False
        for value in values:
            if passes(checks, value.decode("latin-1"), exchange, missing) is not every:
                return not every
        return every

    def lacks(exchange: Exchange) -> str | None:
        if not (test.present or test.absent) and raw not in exchange.headers:
            return f"there is no header {name}"
        return no_param(test.params(), exchange)

    return Part(decide, test.words(f"the header {name}"), lacks=lacks)


def networks(wanted: Sequence[str], site: Site) -> Part:
    lies_within, missing = within(wanted), site.missing

    def decide(exchange: Exchange) -> bool:
        address = exchange.client_ip
        found = None if address is None else lies_within(address)
        return missing if found is None else found

    def lacks(exchange: Exchange) -> str | None:
        address = exchange.client_ip
        return "the client has no address" if address is None or lies_within(address) is None else None

    shown = wanted if len(wanted) <= 4 else [*wanted[:3], f"{len(wanted) - 3} more"]
    return Part(decide, f"the client's address is in {', '.join(shown)}", lacks=lacks)


def client_certificate(asked: CertificateTest, site: Site) -> Part:
    """Names of a kind that the certificate has none of are missing, as they are without a certificate."""
    missing, present = site.missing, asked.present
    tests = tuple((kind, any_matches(patterns)) for kind, patterns in asked.patterns())

    def decide(exchange: Exchange) -> bool:
        found = certificate.certificate_of(exchange)
        if found is None:
            return missing and not present
        for kind, matches in tests:
            names = _names(found, kind)
            if not (matches(names) if names else missing):
                return False
        return True

    def lacks(exchange: Exchange) -> str | None:
        found = certificate.certificate_of(exchange)
        if found is None:
            return None if present else "there is no client certificate"
        return next(
            (f"the client certificate has no {kind} name" for kind, _ in tests if not _names(found, kind)), None
        )

    kinds = " and ".join(f"its {kind} name is one that is wanted" for kind, _ in tests)
    return Part(decide, "there is a client certificate" + (f" and {kinds}" if kinds else ""), lacks=lacks)


def _names(found: certificate.Certificate, kind: str) -> Sequence[str]:
    if kind == "common":
        return () if found.common_name is None else (found.common_name,)
    return {"DNS": found.dns, "URI": found.uris}.get(kind, found.emails)


def hours(wanted: Sequence[str], ports: Ports) -> Part:
    wall = ports.clock.wall
    zoned = tuple((zone_of(ports, one.zone), one.holds) for one in map(window, wanted))

    def decide(exchange: Exchange) -> bool:
        now = wall()
        return any(holds(now + zone(now)) for zone, holds in zoned)

    return Part(decide, f"the time is {' or '.join(wanted)}")


def since(text: str, ports: Ports) -> Part:
    wall, begin = ports.clock.wall, moment(text)
    first = begin.instant(zone_of(ports, begin.zone))
    return Part(lambda _: wall() >= first, f"the time is {text} or later")


def until(text: str, ports: Ports) -> Part:
    """A date alone is a last day, a time is the first moment after."""
    wall, end = ports.clock.wall, moment(text)
    if end.whole_day:
        end = end._replace(local=end.local + DAY)
    after = end.instant(zone_of(ports, end.zone))
    return Part(lambda _: wall() < after, f"the time is {'not after' if end.whole_day else 'before'} {text}")


def custom(holds: Callable[[Exchange], Any] | Outside, site: Site) -> Part:
    """A function of the exchange, or a condition from outside."""
    if isinstance(holds, Outside):
        return outside(holds, site)
    function = holds

    def decide(exchange: Exchange) -> Verdict:
        found = function(exchange)
        if found is True or found is False:
            return found
        if inspect.iscoroutine(found):
            found.close()
        raise TypeError("a condition answers True or False")

    return Part(decide, f"{getattr(function, '__qualname__', type(function).__name__)} holds", caller=True)


def outside(asked: Outside, site: Site) -> Part:
    decider = asked.bind_to(site.ports)
    return Part(decider.decide, decider.words, caller=True, asks=asked.asks, outside=decider)
