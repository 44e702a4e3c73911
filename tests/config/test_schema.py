"""The JSON Schema: valid itself, takes what configuration takes, and refuses what editors should mark."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gatekit.config.schema import json_schema
from gatekit.core.policy import Spec
from gatekit.policies import kinds


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(json.loads(json.dumps(schema)))


def test_every_policy_has_its_key() -> None:
    entries = json_schema()["$defs"]["policy"]["oneOf"]
    assert tuple(sorted(next(iter(entry["properties"])) for entry in entries if "properties" in entry)) == kinds()


def test_what_only_python_can_say_is_left_out() -> None:
    definitions = json_schema()["$defs"]
    assert not {"app", "transport", "tls_context"} & set(definitions["Cluster"]["properties"])
    assert "when" not in definitions["Route"]["properties"]
    assert definitions["Cluster"]["properties"]["timeout"]["description"].startswith("The longest time")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"policies": ["telemetry", {"rate_limit": "2/second"}, {"rate_limit": {"limit": ["2/second", "9/minute"]}}]},
        {
            "routes": [
                {"match": "/a", "to": "x"},
                {"match": "/a", "to": {"x": 1, "y": 0}},
                {"match": "/a", "to": [["x", 1]]},
            ]
        },
        {"routes": [{"match": "/a", "hosts": "shop.example"}, {"match": "/a", "hosts": ["shop.example"]}]},
        {"routes": [{"match": "/a", "headers": {"a": "b", "c": {"prefix": "d"}, "e": {"not": {"present": True}}}}]},
        {"clusters": {"x": {"urls": "http://a", "timeout": "250ms", "keepalive": 3}}},
        {"policies": [{"telemetry": None}]},
    ],
)
def test_it_takes_what_configuration_takes(validator: Draft202012Validator, document: dict[str, Any]) -> None:
    validator.validate(document)


@pytest.mark.parametrize(
    "document",
    [
        {"polices": []},
        {"policies": ["telemtry"]},
        {"policies": ["rate_limit"]},
        {"policies": [{"rate_limit": {"limt": "2/second"}}]},
        {"policies": [{"telemetry": None, "cors": None}]},
        {"routes": [{"to": "x"}]},
        {"routes": [{"match": "/a", "headers": {"a": {"prefx": "d"}}}]},
        {"routes": [{"match": "/a", "to": {"x": -1}}]},
        {"clusters": {"x": {"timeout": "1w"}}},
        {"clusters": {"x": {"app": "shop:app"}}},
    ],
)
def test_it_marks_what_is_wrong(validator: Draft202012Validator, document: dict[str, Any]) -> None:
    assert not validator.is_valid(document)


def test_without_policies_that_need_nothing_no_name_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Needy(Spec):
        kind = "needy"
        setting: int
        function: Callable[[int], int] | None = None
        other: Callable[[int], int] = abs

    monkeypatch.setattr("gatekit.config.schema.kinds", lambda: ("needy",))
    monkeypatch.setattr("gatekit.config.schema.spec_class", {"needy": Needy}.__getitem__)
    assert list(json_schema()["$defs"]["Needy"]["properties"]) == ["setting"]
    assert [list(entry) for entry in json_schema()["$defs"]["policy"]["oneOf"]] == [
        ["type", "properties", "required", "additionalProperties"]
    ]
