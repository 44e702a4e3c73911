"""The JSON Schema of a configuration document (Draft 2020-12), for editors and for checking before a reload.

It has every policy that ships or is installed. It is made from the models, and says what documents can say: what only
Python can give (an app object, a function) is not in it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import PydanticOmit, core_schema

from gatekit.config.model import GatewayConfig
from gatekit.core.policy import Spec
from gatekit.policies import kinds, spec_class

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{model}"


class _DocumentSchema(GenerateJsonSchema):
    """What has no form in a document is left out instead of being an error; a spec stands for any policy."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        raise PydanticOmit

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return {"$ref": "#/$defs/policy"} if schema["cls"] is Spec else super().model_schema(schema)

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """A list that something looks at first may be written as its one item (`hosts: shop.example`)."""
        inner = super().function_before_schema(schema)
        return {"anyOf": [inner["items"], inner]} if inner.get("type") == "array" and "items" in inner else inner


def json_schema() -> dict[str, Any]:
    """The schema of the mapping that a document is."""
    specs = {kind: spec_class(kind) for kind in kinds()}
    models: list[type[BaseModel]] = [GatewayConfig, *specs.values()]
    by_model, shared = models_json_schema(
        [(model, "validation") for model in models], schema_generator=_DocumentSchema, ref_template=_REF
    )
    definitions: dict[str, Any] = dict(shared["$defs"])
    references = {kind: by_model[(spec, "validation")] for kind, spec in specs.items()}
    definitions["policy"] = _policy(specs, references, definitions)
    top = definitions.pop(GatewayConfig.__name__)
    return {"$schema": DIALECT, "title": "gatekit configuration", **top, "$defs": definitions}


def _policy(specs: dict[str, type[Spec]], references: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A policy in a document: its name alone, or one key with its settings."""
    bare = [kind for kind, spec in specs.items() if not any(one.is_required() for one in spec.model_fields.values())]
    entries: list[dict[str, Any]] = [{"enum": bare}] if bare else []
    for kind, spec in specs.items():
        forms = [references[kind]]
        if spec.positional:
            fields = definitions[spec.__name__]["properties"]
            forms.append(fields[spec.positional[0]])
        if kind in bare:
            forms.append({"type": "null"})
        entries.append(
            {
                "type": "object",
                "properties": {kind: {"anyOf": forms}},
                "required": [kind],
                "additionalProperties": False,
            }
        )
    return {"description": "A policy: its name, or a mapping with its name as the one key.", "oneOf": entries}


__all__ = ["DIALECT", "json_schema"]
