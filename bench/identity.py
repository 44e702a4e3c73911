"""What it costs to know who calls and what they may do: each method and rule alone, and the whole way beside its peers.

Everything in one run, in rounds that take turns, in CPU time of the process: what counts are the ratios. The way from a
request to its answer is measured in process, and behind uvicorn on one core with the load on another. About 4 minutes:

    python bench/identity.py [--quick] [--only PART ...] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import platform
import random
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jwt as pyjwt
from bench.peers.identity_rounds import Amount, Case, measured, middle, ratio, table
from bench.peers.identity_scene import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    LEEWAY,
    SCOPE,
    TENANT,
    URI,
    Issuer,
    asked,
    bearing,
    certificate,
    introspected,
    tokens_of,
)
from bench.peers.identity_ways import served, shadowed, ways

from gatekit import ApiKey, Authn, Authz, Exchange, Identity, Ports, Rule, api_keys, introspection, mtls, new_api_key
from gatekit.core.ports import Cells
from gatekit.gateway.system import system_ports
from gatekit.policies.authz.ruleset import BoundRule
from gatekit.testing import FakeFetch, ManualClock, decide, test_ports

PARTS = ("credentials", "rules", "shadow", "ways", "served", "flood")
TOGETHER = 50
"""Calls that are timed together: one is shorter than the timer is exact."""

WHOLE = Amount(100_000, 500, 120, 40, 10_000, 8, 0.4, 10_000)
QUICK = Amount(100, 4, 2, 4, 40, 1, 0.2, 500)


# -- Credentials


def ports(**given: Any) -> Ports:
    """The process's own clocks, so that what reading them costs is counted."""
    return test_ports(clock=system_ports().clock, cells=Cells(), stores=system_ports().stores, **given)


def many(count: int, *credentials: tuple[str, str], **told: Any) -> list[Exchange]:
    return [asked(*credentials, **told) for _ in range(count)]


def with_revocations(issuer: Issuer, entries: int) -> Any:
    """The policy with a list in memory: 90 % token ids, the rest subjects and clients."""
    given = ports()
    policy = Authn(tokens_of(issuer.jwks), revocations="memory:").bind(given)
    listed = given.owned_by("stores").cell(("revocations", "memory:"), lambda: None)
    assert listed is not None
    for number in range(entries):
        kind = "sub" if number % 20 == 0 else "client_id" if number % 20 == 10 else "jti"
        listed.revoke(until=time.time() + 86_400, **{kind: f"another-{number}"})
    return policy


def tokens(issuer: Issuer, count: int) -> dict[str, Case]:
    """Cached and not, and what the signature alone costs, for each algorithm."""
    found: dict[str, Case] = {}
    for algorithm in ALGORITHMS:
        token = issuer.token(0, algorithm)
        asked_of = many(count, bearing(token))
        found[f"{algorithm}, remembered"] = Case(Authn(tokens_of(issuer.jwks)).bind(ports()), asked_of)
        found[f"{algorithm}, cache=0"] = Case(Authn(tokens_of(issuer.jwks, cache=0)).bind(ports()), asked_of)
        key = next(pyjwt.PyJWK(one) for one in issuer.jwks["keys"] if one["alg"] == algorithm)
        found[f"{algorithm}, PyJWT decode"] = Case(_pyjwt(token, key, algorithm), asked_of)
    return found


def _pyjwt(token: str, key: pyjwt.PyJWK, algorithm: str) -> Callable[[Exchange], object]:
    names = [algorithm]

    def decoded(exchange: Exchange) -> object:
        return pyjwt.decode(token, key, algorithms=names, audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY)

    return decoded


def others(issuer: Issuer, count: int, revoked: int) -> dict[str, Case]:
    """The same token with a list of what is revoked, and what is no JWT."""
    sent = bearing(issuer.token())
    made = new_api_key(secrets.token_bytes)
    keys = Authn(api_keys({"reports": ApiKey(made.hash, scopes=[SCOPE])}))
    pem, xfcc = certificate()
    by_certificate = Authn(mtls(allow=f"uri:{URI}"))
    told_in = "x-forwarded-client-cert"
    answers = FakeFetch().answer(f"{ISSUER}/introspect", body=introspected())
    opaque = Authn(
        introspection(url=f"{ISSUER}/introspect", audience=AUDIENCE, client_id="gateway", client_secret="of the bench")  # noqa: S106
    )
    return {
        "JWT, nothing revoked": Case(with_revocations(issuer, 0), many(count, sent)),
        f"JWT, {revoked:,} revoked": Case(with_revocations(issuer, revoked), many(count, sent)),
        "API key, salted": Case(keys.bind(ports()), many(count, ("x-api-key", made.text))),
        "mTLS, tls extension": Case(by_certificate.bind(ports()), many(count, tls=pem)),
        "mTLS, XFCC of a proxy": Case(by_certificate.bind(ports()), many(count, (told_in, xfcc), told_in=told_in)),
        "introspection, kept": Case(opaque.bind(ports(fetch=answers)), many(count, bearing("an-opaque.token_0815"))),
    }


def credentials(issuer: Issuer, amount: Amount) -> list[str]:
    cases = {**tokens(issuer, TOGETHER), **others(issuer, TOGETHER, amount.revoked)}
    times = measured(cases, amount.rounds)
    rows: list[tuple[object, ...]] = []
    for algorithm in ALGORITHMS:
        kept, anew, theirs = (f"{algorithm}, {one}" for one in ("remembered", "cache=0", "PyJWT decode"))
        rows.append((
            algorithm, f"{middle(times, kept):.1f}", f"{middle(times, anew):.1f}", f"{ratio(times, anew, kept):.1f}",
            f"{middle(times, theirs):.1f}", f"{ratio(times, anew, theirs):.2f}", f"{ratio(times, theirs, kept):.1f}",
            cases[kept].calls(), cases[anew].calls(),
        ))  # fmt: skip
    first = "RS256, remembered"
    rest = [
        (name, f"{middle(times, name):.1f}", f"{ratio(times, name, first):.2f}", cases[name].calls())
        for name in (first, *list(cases)[3 * len(ALGORITHMS) :])
    ]
    return [
        *table(
            "A token: `decide()` of `Authn(jwt(...))`",
            "algorithm, remembered µs, verified µs, verified / remembered, `jwt.decode` of PyJWT µs, verified / PyJWT, "
            "PyJWT / remembered, calls remembered, calls verified",
            rows,
        ),
        *table(
            "Other credentials: `decide()` of `Authn(...)`", "credential, µs, ratio to the remembered JWT, calls", rest
        ),
    ]


# -- Rules


def twenty() -> Authz:
    """A policy of 20 rules, of which the last allows: three that deny and sixteen that allow others are looked at first."""
    deny = [
        Rule(id="suspended", claims={"suspended": True}), Rule(id="bots", clients=["bot-1", "bot-2"]),
        Rule(id="writes", methods=["DELETE"], roles="guest"),
    ]  # fmt: skip
    allow = [Rule(id=f"team-{number}", roles=f"team-{number}", scopes=f"team-{number}:read") for number in range(16)]
    return Authz(deny=deny, allow=[*allow, Rule(id="readers", scopes=SCOPE, tenants={"param": "tenant"})])


def rules(amount: Amount) -> list[str]:
    who = Identity(
        "ann", issuer=ISSUER, tenant=TENANT, client="shop-web", scopes=frozenset({SCOPE, "orders:write", "profile"}),
        roles=frozenset({"operator"}), claims={"suspended": False}, scheme="jwt",
    )  # fmt: skip
    exchanges = many(TOGETHER)
    for exchange in exchanges:
        exchange.identity = who
    of_tenant: Any = {"scopes": SCOPE, "tenants": {"param": "tenant"}}
    specs = {
        "scopes": Authz(scopes=SCOPE),
        "scopes and tenant = path parameter": Authz(**of_tenant),
        "20 rules, the last allows": twenty(),
        "scopes, a shadow policy beside": Authz(scopes=SCOPE, shadow=[{"id": "stricter", "allow": [of_tenant]}]),
    }
    cases = {name: Case(spec.bind(ports()), exchanges) for name, spec in specs.items()}
    compiled = {
        name: Case(BoundRule(rule, "rule", ports(), deny=False).part.decide, exchanges)
        for name, spec in specs.items()
        for rule in spec.allowances()[:1]
        if len(spec.allowances()) == 1 and not spec.shadow
    }
    times = measured({**cases, **{f"{name}: predicate": one for name, one in compiled.items()}}, amount.rounds)
    rows = [
        (
            name, f"{middle(times, name):.2f}", f"{ratio(times, name, 'scopes'):.2f}", cases[name].calls(),
            f"{middle(times, f'{name}: predicate'):.2f}" if name in compiled else "",
        )
        for name in specs
    ]  # fmt: skip
    columns = "rule, `decide()` µs, ratio to scopes, calls, compiled predicate µs"
    return table("Rules: `decide()` of `Authz(...)`", columns, rows)


# -- A flood


def flood(issuer: Issuer, amount: Amount) -> list[str]:
    """AN6: key ids that nobody has, a thousand a second by a clock of our own; how often the issuer is asked."""
    clock, fetch = ManualClock(), FakeFetch().answer(f"{ISSUER}/keys", json=issuer.jwks)
    policy = Authn(tokens_of(None, jwks_url=f"{ISSUER}/keys")).bind(test_ports(clock=clock, fetch=fetch))
    clock.set_wall(time.time())
    head, _, rest = issuer.token().partition(".")
    good = asked(bearing(f"{head}.{rest}"))
    assert decide(policy, good) is None
    at_first = len(fetch.calls)
    # As an attacker comes: after a while in which nobody asked for a key that is not there.
    clock.advance(60)
    reasons: set[str] = set()
    chance = random.Random(3)  # noqa: S311
    for _ in range(amount.floods):
        clock.advance(0.001)
        made_up = pyjwt.utils.base64url_encode(
            json.dumps({"alg": "RS256", "kid": f"{chance.getrandbits(64):x}"}).encode()
        ).decode()
        refused = decide(policy, asked(bearing(f"{made_up}.{rest}")))
        assert refused is not None
        reasons.add(refused.reason)
    return [
        f"{amount.floods:,} tokens with random key ids in {amount.floods / 1000:g} s of a virtual clock: "
        f"fetches of the key set: {len(fetch.calls) - at_first}; answers: {', '.join(sorted(reasons))}.",
        "",
    ]


def versions() -> list[str]:
    names = ("PyJWT", "cryptography", "joserfc", "starlette", "fastapi", "fastapi-azure-auth", "uvicorn", "uvloop")
    told = [f"CPython {platform.python_version()}"]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            told.append(f"{name} {importlib.metadata.version(name)}")
    return [", ".join(told) + ".", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description="What authentication and authorisation cost.")
    parser.add_argument("--quick", action="store_true", help="a moment of each: whether it runs, not what it costs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to this file too")
    options = parser.parse_args()
    amount = QUICK if options.quick else WHOLE
    issuer = Issuer()
    texts = [issuer.token(number) for number in range(amount.tokens if "ways" in options.only else 10)]
    parts: dict[str, Callable[[], list[str]]] = {
        "credentials": lambda: credentials(issuer, amount),
        "rules": lambda: rules(amount),
        "shadow": lambda: shadowed(issuer, amount),
        "ways": lambda: ways(issuer, amount, texts),
        "served": lambda: served(issuer, amount, texts),
        "flood": lambda: flood(issuer, amount),
    }
    lines: list[str] = []
    for name in PARTS:
        if name in options.only:
            found = parts[name]()
            lines += found
            print("\n".join(found), flush=True)  # noqa: T201
    lines += versions()
    print(lines[-2])  # noqa: T201
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
