"""The spec of introspection: what is refused with what to do, and that its secrets are never shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError
from tests.policies.authn.introspection_scene import GOOD, NOW, URL, Scene

from gatekit.config.printed import digest, settings, shown
from gatekit.errors import MissingSecret
from gatekit.policies.authn.claims import DEFAULT_PATHS
from gatekit.policies.authn.introspection import Introspection, IntrospectionFields, introspection
from gatekit.policies.authn.introspection_bound import PATHS
from gatekit.testing import FakeFetch, ManualClock, test_ports

SECRET = "MARKER-secret"
WHOLE: dict[str, Any] = {"url": URL, "audience": "shop", "client_id": "gw", "client_secret": SECRET}


def made(**fields: Any) -> Introspection:
    return introspection(**{**WHOLE, **fields})


def test_the_defaults_are_those_of_the_documentation() -> None:
    spec = made()
    assert (spec.max_ttl, spec.negative_ttl, spec.timeout, spec.retry_after, spec.leeway) == (30, 10, 2, 1, 60)
    assert (spec.max_in_flight, spec.client_auth, spec.jws, spec.token_type_hint) == (50, "basic", True, "access_token")
    assert spec.audience == ("shop",)
    assert spec.place == ("authorization", "bearer", None)


def test_the_function_takes_every_field_and_no_other() -> None:
    assert set(get_type_hints(IntrospectionFields)) == set(Introspection.model_fields) - {"method"}


def test_the_paths_of_claims_are_the_usual_ones_but_for_clients_that_act_for_themselves() -> None:
    assert dict(PATHS) == {**DEFAULT_PATHS, "subject": ("sub", "client_id")}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"url": None}, "give the url of the introspection endpoint, or the issuer"),
        ({"url": "http://as.example/introspect"}, "url is an absolute https URL"),
        ({"url": "https://user:MARKER@as.example/"}, "url is an absolute https URL"),
        ({"url": "https://as.example/#x"}, "url is an absolute https URL"),
        ({"url": "as.example/introspect"}, "url is an absolute https URL"),
        ({"url": "ftp://as.example/", "networks": ["10.0.0.0/8"]}, "url is an absolute https URL"),
        ({"url": "https://as.example/a b"}, "url is an absolute https URL"),
        ({"url": None, "issuer": "as"}, "issuer is an absolute https URL"),
        ({"url": None, "issuer": "https://as.example/?tenant=1"}, "is a URL without a query"),
        ({"audience": ()}, "say whom tokens are for with audience"),
        ({"audience": []}, "say whom tokens are for with audience"),
        ({"unchecked_audience": True}, "not both"),
        ({"audience": ""}, "audience"),
        ({"client_id": ""}, "client_id"),
        ({"client_id": "a\nb"}, "client_id"),
        ({"client_id": "ü"}, "client_id"),
        ({"client_secret": None}, "'basic' takes client_secret"),
        ({"client_secret": None, "client_auth": "post"}, "'post' takes client_secret"),
        ({"assertion_key": SECRET}, "assertion_key is for private_key_jwt"),
        ({"client_auth": "private_key_jwt", "client_secret": None}, "takes assertion_key, a private key"),
        ({"client_auth": "private_key_jwt", "assertion_key": SECRET}, "and no client_secret"),
        ({"client_auth": "none"}, "client_auth"),
        ({"assertion_algorithm": "HS256"}, "assertion_algorithm"),
        ({"client_secret": ""}, "neither empty nor asterisks"),
        ({"client_secret": "**********"}, "neither empty nor asterisks"),
        ({"client_secret": 7}, "client_secret"),
        ({"claims": {"subject": "a..b"}}, "not a path to a claim"),
        ({"claims": {"subject": ()}}, "name at least one path"),
        ({"claims": {"password": "x"}}, "claims"),
        ({"claims": "sub"}, "claims"),
        ({"networks": ["10.0.0.1/8"]}, "without host bits"),
        ({"networks": ["private"]}, "without host bits"),
        ({"networks": ["::ffff:10.0.0.0/104"]}, "write the IPv4 network"),
        ({"max_ttl": 61}, "max_ttl"),
        ({"negative_ttl": -1}, "negative_ttl"),
        ({"timeout": 0}, "timeout"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"retry_after": 0}, "retry_after"),
        ({"leeway": 301}, "leeway"),
        ({"client_sekret": SECRET}, "client_sekret"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an3_a_mistake_is_refused_with_what_to_do_and_no_secret(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        made(**fields)
    assert why in str(caught.value)
    assert "MARKER" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "http://10.0.0.7:8080/introspect", "networks": ["10.0.0.0/8"]},
        {"url": "https://[2001:db8::1]:8443/introspect?realm=x"},
        {"url": None, "issuer": "https://as.example/tenant/"},
        {"issuer": "any text at all"},
        {"audience": (), "unchecked_audience": True},
        {"networks": ["fd00::/8", "10.1.2.3/32"]},
        {"claims": {"roles": [], "tenant": 'a."b.c"'}},
    ],
    ids=str,
)
def test_what_is_meant_is_taken(fields: dict[str, Any]) -> None:
    made(**fields)


def test_a_spec_as_a_file_has_it_is_the_same() -> None:
    file = {
        "method": "introspection", "url": URL, "audience": ["shop"], "client_id": "gw", "client_secret": SECRET,
        "claims": {"roles": ["groups"]},
    }  # fmt: skip
    assert TypeAdapter(Introspection).validate_python(file) == made(claims={"roles": "groups"})
    assert Introspection.model_validate(made().model_dump()) == made()
    schema = json.dumps(Introspection.model_json_schema())
    assert "client_secret" in schema


def test_ob8_no_secret_is_in_a_repr_dump_listing_or_schema() -> None:
    spec = made(client_auth="basic")
    signed = made(client_auth="private_key_jwt", client_secret=None, assertion_key=f"-----BEGIN {SECRET}")
    for one in (spec, signed):
        texts = [
            repr(one), str(one), repr(one.model_dump()), one.model_dump_json(), shown(one), repr(settings(one)),
            json.dumps(Introspection.model_json_schema()),
        ]  # fmt: skip
        assert not any("MARKER" in text for text in texts)
    assert digest(spec) != digest(made(client_secret=SECRET + "2")), "another secret is another configuration"


# -- secrets are looked up when the spec is bound


def bind(lookup: Callable[[str], str], **fields: Any) -> Any:
    fetch = FakeFetch().answer(URL, json=GOOD)
    ports = test_ports(clock=ManualClock(wall=NOW), fetch=fetch, secrets=lookup)
    return Scene(ports=ports, fetch=fetch, **fields)


def test_a_secret_is_what_its_reference_leads_to() -> None:
    scene = bind({"env:AS_SECRET": "found"}.__getitem__, client_secret=SecretStr("env:AS_SECRET"), client_auth="post")
    scene.identity()
    assert b"client_secret=found" in scene.fetch.calls[0].body


def test_a_reference_that_leads_to_nothing_refuses_the_configuration() -> None:
    def lookup(reference: str) -> str:
        raise MissingSecret(f"{reference} is not set")

    with pytest.raises(MissingSecret, match="env:AS_SECRET is not set"):
        bind(lookup, client_secret="env:AS_SECRET")


def test_a_key_that_cannot_sign_refuses_the_configuration_without_being_shown() -> None:
    with pytest.raises(ValueError, match="assertion_key: there is no private key in it") as caught:
        bind(
            {"file:/key.pem": "MARKER"}.__getitem__,
            client_auth="private_key_jwt",
            client_secret=None,
            assertion_key="file:/key.pem",
        )
    assert "MARKER" not in str(caught.value)
