"""The form of chat answers: text, JSON, or JSON of a schema."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from steerzo_edge.config import Config
from steerzo_edge.decoding.grammar import JSON_OBJECT, Form


class TextFormat(Config):
    """Any text."""

    type: Literal["text"]

    @property
    def form(self) -> Form | None:
        """The form that answers must have."""
        return None


class JsonObjectFormat(Config):
    """A JSON object."""

    type: Literal["json_object"]

    @property
    def form(self) -> Form | None:
        """The form that answers must have."""
        return JSON_OBJECT


class NamedSchema(Config):
    """A JSON schema."""

    name: str = Field(max_length=200, description="Ignored.")
    description: Annotated[str, Field(max_length=10_000)] | None = Field(
        None, description="Ignored: describe the answer in a message, which the model reads."
    )
    schema_: dict[str, Any] = Field(alias="schema", description="The schema.")
    strict: bool | None = Field(None, description="Ignored: answers always have the schema.")

    @property
    def schema_form(self) -> Form:
        """The form of JSON that has the schema."""
        return Form("json-schema", json.dumps(self.schema_))


class JsonSchemaFormat(Config):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    @property
    def form(self) -> Form | None:
        """The form that answers must have."""
        return self.json_schema.schema_form


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]
