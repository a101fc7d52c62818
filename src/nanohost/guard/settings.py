"""Defines the [guard] settings: a permission for each action. The registry of actions checks the names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import ConfigDict

from nanohost.config.section import Section


class GuardSettings(Section):
    model_config = ConfigDict(extra="allow")
    table: ClassVar = "guard"
    expected: ClassVar = "allow, hold or deny, by the names of actions"

    __pydantic_extra__: dict[str, Literal["allow", "hold", "deny"]]

    @property
    def actions(self) -> Mapping[str, str]:
        """The permissions by the action's name."""
        return self.__pydantic_extra__

    @classmethod
    def normalize_keys(cls, content: Mapping[str, object]) -> dict[str, object]:
        """Flatten nested tables: people write tasks.create or "tasks.create", and TOML reads the first as a table in a
        table."""
        found: dict[str, object] = {}
        for name, value in content.items():
            if isinstance(value, dict):
                found |= {f"{name}.{rest}": inner for rest, inner in value.items()}
            else:
                found[name] = value
        return found
