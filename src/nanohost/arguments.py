"""Defines the base model of a command's arguments. Its fields are what people type, in a shell or in a chat."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator


class CommandArguments(BaseModel):
    """A field without a default is required; its description is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _validate_text(cls, value: object) -> object:
        """Reject text that is not valid UTF-8: a shell may pass it, but no database can store it. Raises ValueError."""
        if isinstance(value, str) and value.encode("utf-8", "replace").decode("utf-8") != value:
            raise ValueError("it is not text")
        return value
