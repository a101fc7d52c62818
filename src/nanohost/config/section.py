"""Declares settings: a `Section` beside the code that reads it.

A setting is one field of one Section, in the module `settings.py` of the package that uses it, or in a `*_settings.py`
beside this file where no package does. Nothing else has to be edited: the file's keys, the variables, the sentences
about mistakes and docs/reference/settings.md are made of what is declared. These modules are imported whenever settings
are loaded, so they import nothing that is slow to import.
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
"""In place of a provider or a runtime: the host chooses."""


class Section(BaseModel):
    """Keys of one table of nanohost.toml, for one part of the host. Several sections may share a table.

    One with `extra="allow"` has a table of its own whose keys are not ours, such as the names of actions; `expected`
    says what their values have to be.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    table: ClassVar[str]
    expected: ClassVar[str] = ""

    @classmethod
    def defaults(cls, environ: Mapping[str, str]) -> Mapping[str, object]:
        """What counts where neither the file nor a variable of nanohost says anything, by the key."""
        return {}

    @classmethod
    def normalize_keys(cls, content: Mapping[str, object]) -> dict[str, object]:
        """The table's keys and values, as the file has them."""
        return dict(content)

    @classmethod
    def allows_unknown_keys(cls) -> bool:
        """Whether its keys are not ours."""
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
    """A key of a section. `title` says what it is for and `expected` what a value has to be, both for people; `order`
    is where it stands on the reference page: tables come in the order of their first keys."""
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
    """For a key that names a file of nanohost or of the install, or is AUTO. `names`: those that there are, by the
    install's root; what is made without an install is not looked up."""

    def known(name: str, info: ValidationInfo) -> str:
        root = (info.context or {}).get("root")
        if root is not None and name != AUTO and name not in names(root):
            raise ValueError(f"there is no {kind} of this name")
        return name

    return AfterValidator(known)


@dataclass(frozen=True, slots=True)
class SettingKey:
    """A key that is declared."""

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
    """All that are declared, by their first keys on the reference page; those with keys that are not ours come last."""
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
    """The tables with keys of ours, and their keys, in the order of the reference page.

    Raises ValueError where two sections declare the same key.
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
    """The tables whose keys are not ours."""
    return {one.table: one for one in sections() if one.allows_unknown_keys()}


def _settings_modules() -> Iterator[str]:
    """The modules that declare settings. Found by their names: to read all others would take longer than to load."""
    for folder in map(Path, nanohost.__path__):
        for path in sorted([*folder.glob("*/*_settings.py"), *folder.glob("*/settings.py")]):
            yield ".".join((nanohost.__name__, *path.relative_to(folder).with_suffix("").parts))


def _is_declared(value: object, module: str) -> bool:
    return isinstance(value, type) and issubclass(value, Section) and value.__module__ == module


def _section_keys(section: type[Section]) -> Iterator[SettingKey]:
    return (SettingKey(section, name, field) for name, field in section.model_fields.items())
