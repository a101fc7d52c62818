"""The base model of a command's arguments. Its fields are what is typed, in a shell or in a chat."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator


class CommandArguments(BaseModel):
    """A field without a default is required; its description is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _validate_text(cls, value: object) -> object:
        """What a shell hands over need not be UTF-8, and what is not could be kept nowhere."""
        if isinstance(value, str) and value.encode("utf-8", "replace").decode("utf-8") != value:
            raise ValueError("it is not text")
        return value
