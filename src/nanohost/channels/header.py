"""Reads a channel file's header without importing the file; see nanohost.extensions.header."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nanohost.errors import ChannelLoadError
from nanohost.extensions.header import HeaderSpec, Script, common_key_hints

_EXAMPLE = """\
# /// script
# dependencies = ["httpx>=0.28"]
# [tool.nanohost]
# kind = "channel"
# name = "example"
# api = 1
# ///"""

_REMEDIES = {
    **common_key_hints("channel"),
    "requires-python": 'write one string: requires-python = ">=3.11"',
    "tool": 'write a table [tool.nanohost] with kind = "channel", name = "..." and api = 1',
    "tool.nanohost": 'write a table [tool.nanohost] with kind = "channel", name = "..." and api = 1',
    "tool.nanohost.name": 'write name = "example": a letter first, then letters, digits, - and _, all lower case',
    "tool.nanohost.settings": 'write a table [[tool.nanohost.settings]] for each, with name = "..." and help = "..."',
    "tool.nanohost.settings.name": 'write name = "token": small letters, digits and _',
    "tool.nanohost.settings.help": 'write help = "..." with what it is for',
    "tool.nanohost.settings.only_if": 'write only_if = "key=value", or leave it out',
    "tool.nanohost.settings.secret": "write secret = true, or leave it out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSetting:
    """A key of the channel's table that `nanohost channels create` asks for. It is required unless it has a default; an
    optional one has the default "". `only_if`, as key=value: it applies only if an earlier key has this value."""

    name: str
    help: str
    secret: bool = False
    default: str | int | float | bool | None = None
    only_if: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelHeader:
    """The header of a channel file. `dependencies`: requirements in pip's format."""

    name: str
    api: int
    dependencies: tuple[str, ...] = ()
    settings: tuple[ChannelSetting, ...] = ()


def is_applicable(setting: ChannelSetting, table: Mapping[str, object], known: Mapping[str, ChannelSetting]) -> bool:
    """Returns whether the setting applies: the key that it depends on has the required value."""
    key, _, wanted = setting.only_if.partition("=")
    default = known[key].default if key in known else None
    return not key or str(table.get(key, default)) == wanted


def find_misspelt_keys(
    known: Iterable[str], expected: Iterable[ChannelSetting], table: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """Yields each unknown key of the table that resembles a missing expected key, with that key."""
    free = {setting.name for setting in expected} - set(table)
    for key in [key for key in table if key not in set(known)]:
        if near := difflib.get_close_matches(key, free, 1):
            yield key, near[0]


class _Setting(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: Annotated[str, Field(pattern=r"\A[a-z][a-z0-9_]*\z")]
    help: str
    secret: bool = False
    default: str | int | float | bool | None = None
    only_if: Annotated[str, Field(pattern=r"\A[a-z][a-z0-9_]*=.+\z|\A\z")] = ""


class _Nanohost(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: Literal["channel"]
    name: Annotated[str, Field(pattern=r"\A[a-z][a-z0-9_-]*\z")]
    api: int
    settings: list[_Setting] = []


_HEADER_FORM = HeaderSpec(
    kind="channel",
    script=Script[_Nanohost],
    example=_EXAMPLE,
    key_hints=_REMEDIES,
    error_type=ChannelLoadError,
)


def read_header(path: Path) -> ChannelHeader:
    """Reads the header of the file. Raises ChannelLoadError that names the file, the line or key, and the remedy."""
    return parse_header(read_source(path), path)


def read_source(path: Path) -> str:
    """Reads a channel file. Raises ChannelLoadError when it cannot be read or is not UTF-8."""
    return _HEADER_FORM.read_source(path)


def parse_header(source: str, path: Path) -> ChannelHeader:
    """Parses the header in `source`; `path` is used only in the message of a ChannelLoadError."""
    script = _HEADER_FORM.parse(source, path)
    ours = script.tool.nanohost
    settings = tuple(ChannelSetting(**one.model_dump()) for one in ours.settings)
    return ChannelHeader(name=ours.name, api=ours.api, dependencies=tuple(script.dependencies), settings=settings)
