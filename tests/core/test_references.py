"""What settings refer to: secrets, stores, networks, time zones, where no process stands behind them."""

from __future__ import annotations

import pytest

from gatekit.core.identity import Identity
from gatekit.core.networks import network
from gatekit.core.ports import Ports, in_place, plain_secret, store_url
from gatekit.core.units import size
from gatekit.errors import MissingPort, MissingSecret
from gatekit.testing.policies import step


@pytest.mark.parametrize("reference", ["env:NAME", "file:/run/secret"])
def test_a_reference_needs_somebody_who_can_look(reference: str) -> None:
    with pytest.raises(MissingSecret, match="cannot be looked up here"):
        plain_secret(reference)
    assert plain_secret("a secret itself") == "a secret itself"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("file:///var/lib/x", "file:///var/lib/x"),
        ("memory:", "memory:"),
        ("env:URL", "<env:URL>"),
        ("file:/run/url", "<file:/run/url>"),
    ],
)
def test_the_url_of_a_store_may_be_kept_elsewhere(given: str, url: str) -> None:
    assert store_url(given, Ports(secrets=lambda reference: f"<{reference}>")) == url


def test_ports_without_a_store_or_a_zone_say_so() -> None:
    with pytest.raises(MissingPort, match="stores"):
        _ = Ports().stores
    with pytest.raises(ValueError, match="write UTC"):
        Ports().zones("Europe/Zurich")


def test_shared_work_without_a_process_is_done_in_place() -> None:
    async def work() -> int:
        return 7

    assert step(in_place("key", work), "in_place") == 7


def test_derived_ports_have_what_the_first_have() -> None:
    def secret(reference: str) -> str:
        return reference

    first = Ports(secrets=secret, development=True, once=in_place)
    for other in (first.afresh(), first.owned_by("x")):
        assert (other.secrets, other.development, other.once) == (secret, True, in_place)
        assert (other.zones, other.disk) == (first.zones, None)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "x", "", "::ffff:10.0.0.0/104"])
def test_a_network_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="network"):
        network(text)


def test_networks_and_single_addresses() -> None:
    assert [str(network(text)) for text in ("10.0.0.0/8", "fd00::/8", "192.0.2.7")] == [
        "10.0.0.0/8", "fd00::/8", "192.0.2.7/32",
    ]  # fmt: skip


def test_an_identity_goes_by_its_other_names_too() -> None:
    who = Identity("ann", tenant="acme", client="web", claims={"email": "ann@acme.example"})
    assert (who.user_id, who.tenant_id, who.client_id) == ("ann", "acme", "web")
    assert "acme.example" not in repr(who)


@pytest.mark.parametrize(
    ("text", "bytes_"), [("64KiB", 65536), ("10 MiB", 10 << 20), ("7", 7), (7, 7), ("1GiB", 1 << 30)]
)
def test_a_size_is_a_number_or_text_with_a_unit(text: object, bytes_: int) -> None:
    assert size(text) == bytes_


@pytest.mark.parametrize("text", ["64KB", "-1", "1.5MiB", True, 1.5, None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="a size is"):
        size(text)
