"""Declares settings: a `Section` beside the code that reads it.

A setting is one field of one Section, in the module `settings.py` of the package that uses it, or in a `*_settings.py`
beside this file if no package does. Nothing else has to be edited: the file's keys, the variables, the messages about
mistakes and docs/reference/settings.md are derived from the declarations. These modules are imported whenever settings
are loaded, so they must not import slow modules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo
from pydantic.fields import FieldInfo

import nanohost

AUTO = "auto"
"""The value for a provider or a runtime that the host chooses."""


class Section(BaseModel):
    """Keys of one table of nanohost.toml, for one part of the host. Several sections may share a table.

    A section with `extra="allow"` has a table of its own with arbitrary keys, such as the names of actions; `expected`
    says what their values must be.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    table: ClassVar[str]
    expected: ClassVar[str] = ""

    @classmethod
    def defaults(cls, environ: Mapping[str, str]) -> Mapping[str, object]:
        """Returns defaults by key, for keys that neither the file nor a NANOHOST_* variable sets."""
        return {}

    @classmethod
    def normalize_keys(cls, content: Mapping[str, object]) -> dict[str, object]:
        """Returns the table's keys and values in their normal form."""
        return dict(content)

    @classmethod
    def allows_unknown_keys(cls) -> bool:
        """Whether its table may have arbitrary keys."""
        return cls.model_config.get("extra") == "allow"


def setting(
    default: object,
    *,
    order: int,
    title: str,
    expected: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    min_length: int | None = None,
    pattern: str | None = None,
) -> Any:
    """Declares a key of a section. `title`: what it is for; `expected`: what a value must be; both for people. `order`:
    its place on the reference page, where tables come in the order of their first keys."""
    return Field(
        default=default,
        title=title,
        description=expected,
        ge=ge,
        gt=gt,
        le=le,
        min_length=min_length,
        pattern=pattern,
        json_schema_extra={"place": order},
    )


def extension_name(kind: str, names: Callable[[Path], Collection[str]]) -> AfterValidator:
    """Returns a validator for a key that names an extension, or is AUTO. `names`: returns the existing names for an
    install's root; without an install nothing is checked."""

    def known(name: str, info: ValidationInfo) -> str:
        root = (info.context or {}).get("root")
        if root is not None and name != AUTO and name not in names(root):
            raise ValueError(f"there is no {kind} of this name")
        return name

    return AfterValidator(known)


@dataclass(frozen=True, slots=True)
class SettingKey:
    """A declared key."""

    section: type[Section]
    name: str
    field: FieldInfo

    @property
    def expected(self) -> str:
        return self.field.description or ""

    @property
    def order(self) -> int:
        extra = self.field.json_schema_extra
        return int(str(extra["place"])) if isinstance(extra, dict) else 0

    @property
    def is_secret(self) -> bool:
        return SecretStr in (self.field.annotation, *get_args(self.field.annotation))


@cache
def sections() -> tuple[type[Section], ...]:
    """Returns all declared sections, in the order of the reference page; those with arbitrary keys come last."""
    found = [
        one for name in _settings_modules() for one in vars(import_module(name)).values() if _is_declared(one, name)
    ]
    return tuple(
        sorted(
            found,
            key=lambda one: (one.allows_unknown_keys(), min((key.order for key in _section_keys(one)), default=0)),
        )
    )


@cache
def tables() -> Mapping[str, Mapping[str, SettingKey]]:
    """Returns the tables and their declared keys, in the order of the reference page.

    Raises ValueError if two sections declare the same key.
    """
    found: dict[str, dict[str, SettingKey]] = {}
    every = (key for section in sections() for key in _section_keys(section))
    for key in sorted(every, key=lambda one: (one.order, one.name)):
        table = found.setdefault(key.section.table, {})
        if (other := table.setdefault(key.name, key)) is not key:
            places = " and ".join(one.section.__module__ for one in (other, key))
            raise ValueError(f"[{key.section.table}] {key.name} is declared in {places}")
    return found


def open_sections() -> Mapping[str, type[Section]]:
    """Returns the tables with arbitrary keys."""
    return {one.table: one for one in sections() if one.allows_unknown_keys()}


def _settings_modules() -> Iterator[str]:
    """Yields the modules that declare settings, found by their file names: to read all modules would take too long."""
    for folder in map(Path, nanohost.__path__):
        for path in sorted([*folder.glob("*/*_settings.py"), *folder.glob("*/settings.py")]):
            yield ".".join((nanohost.__name__, *path.relative_to(folder).with_suffix("").parts))


def _is_declared(value: object, module: str) -> bool:
    return isinstance(value, type) and issubclass(value, Section) and value.__module__ == module


def _section_keys(section: type[Section]) -> Iterator[SettingKey]:
    return (SettingKey(section, name, field) for name, field in section.model_fields.items())
