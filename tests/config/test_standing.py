"""Which policies stand on a route: of a kind that the gateway has too, one may stand for both."""

from __future__ import annotations

from typing import ClassVar

import pytest

from gatekit import Cluster, ConfigRefused, Gateway, GatewayConfig, Route
from gatekit.config.findings import findings
from gatekit.config.standing import kind_of, standing
from gatekit.core.policy import Spec


class Merging(Spec):
    kind: ClassVar[str] = "merging"
    words: tuple[str, ...] = ()

    def over(self, outer: Merging) -> Merging:
        if "no" in outer.words:
            raise ValueError("they contradict each other")
        return Merging(words=(*outer.words, *self.words))


class Adding(Spec):
    kind: ClassVar[str] = "adding"
    word: str = ""


class Nameless(Spec):
    pass


def test_policies_that_do_not_merge_stand_side_by_side() -> None:
    outer, own = Adding(word="a"), Adding(word="b")
    stands = standing([outer], [own])
    assert stands.own == (own,)
    assert stands.of([outer]) == [outer, own]


def test_one_may_stand_for_all_of_the_gateways() -> None:
    shared = [Merging(words=("a",)), Adding(), Merging(words=("b",))]
    stands = standing(shared, [Merging(words=("c",)), Merging(words=("d",))])
    assert stands.taken == {"merging"}
    assert stands.own == (Merging(words=("b", "a", "c")), Merging(words=("d",)))
    assert stands.of(shared) == [Adding(), *stands.own]


def test_a_route_without_the_kind_leaves_the_gateways() -> None:
    shared = [Merging(words=("a",))]
    assert standing(shared, [Adding()]).of(shared) == [*shared, Adding()]


def test_a_contradiction_is_said() -> None:
    with pytest.raises(ValueError, match="contradict"):
        standing([Merging(words=("no",))], [Merging()])


def test_a_kind_or_the_name_of_the_class() -> None:
    assert (kind_of(Adding()), kind_of(Nameless())) == ("adding", "Nameless")


def test_a_contradiction_is_said_once_and_by_compiling() -> None:
    shared, own = [Merging(words=("no",))], [Merging()]
    config = GatewayConfig(
        policies=shared, routes=[Route("/a", to="a", policies=own), Route("/b", to="a")],
        clusters={"a": Cluster("http://127.0.0.1:1")},
    )  # fmt: skip
    assert [str(one) for one in findings(config)] == []
    with pytest.raises(ConfigRefused, match="they contradict each other"):
        Gateway(config=config)


def test_a_header_with_certificates_is_one_that_is_known() -> None:
    for header in ("X-Client", "client_cert"):
        with pytest.raises(ConfigRefused, match="no header in which certificates are told"):
            Gateway.from_config({"trusted_proxies": ["10.0.0.0/8"], "client_cert_header": header})
    with pytest.raises(ConfigRefused, match="trusted_proxies"):
        Gateway.from_config({"client_cert_header": "client-cert"})
    with pytest.raises(ConfigRefused):
        Gateway.from_config({"trusted_proxies": 7, "client_cert_header": "client-cert"})
    made = Gateway.from_config({"trusted_proxies": ["10.0.0.0/8"], "client_cert_header": "Client-Cert"})
    assert made.config.client_cert_header == "client-cert"
