"""What a command takes, whether it is typed in a shell or in a chat: a model whose fields are what is typed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Arguments(BaseModel):
    """A field without a default is required; its description is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True)
