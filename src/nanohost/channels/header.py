"""A channel file's header, read without importing the file.

The header is an inline-metadata block as Python defines it (PEP 723): comment lines between `# /// script` and
`# ///` that hold TOML. Reading it never runs a line of the channel: a file with a missing library, or one written
for another version, can still be listed by name.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nanohost.errors import ChannelLoadError

_OPENING = "# /// script"
_CLOSING = "# ///"

_EXAMPLE = """\
# /// script
# dependencies = ["httpx>=0.28"]
# [tool.nanohost]
# kind = "channel"
# name = "example"
# api = 1
# ///"""

_WRITE_THIS = {
    "dependencies": 'write a list of requirements: dependencies = ["httpx>=0.28"]',
    "requires-python": 'write one string: requires-python = ">=3.11"',
    "tool": 'write a table [tool.nanohost] with kind = "channel", name = "..." and api = 1',
    "tool.nanohost": 'write a table [tool.nanohost] with kind = "channel", name = "..." and api = 1',
    "tool.nanohost.kind": 'write kind = "channel"',
    "tool.nanohost.name": 'write name = "example": a letter first, then letters, digits, - and _, all lower case',
    "tool.nanohost.api": "write the number, without quotes: api = 1",
    "tool.nanohost.settings": 'write a table [[tool.nanohost.settings]] for each, with name = "..." and help = "..."',
    "tool.nanohost.settings.name": 'write name = "token": small letters, digits and _',
    "tool.nanohost.settings.help": 'write help = "..." with what it is for',
    "tool.nanohost.settings.only_if": 'write only_if = "key=value", or leave it out',
    "tool.nanohost.settings.secret": "write secret = true, or leave it out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A key of the channel's table that `nanohost channels add` asks for. Without a default it has to be given; one
    that may be left out has the default "". `only_if`, as key=value: it is of no use beside another value of a key that
    is asked for before."""

    name: str
    help: str
    secret: bool = False
    default: str | int | float | bool | None = None
    only_if: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a channel file says about itself. `dependencies` are requirements as pip takes them."""

    name: str
    api: int
    dependencies: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()


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


class _Tool(BaseModel):
    """Tables of other tools may stand beside ours."""

    model_config = ConfigDict(strict=True, extra="ignore")
    nanohost: _Nanohost


class _Script(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    requires_python: Annotated[str | None, Field(alias="requires-python")] = None
    dependencies: list[str] = []
    tool: _Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """The TOML between the markers; `first` and `last` are the markers' line numbers in the file."""

    toml: str
    first: int
    last: int


def read_header(path: Path) -> Header:
    """The header of the file at `path`. Raises ChannelLoadError naming the file, the line or key, and the remedy."""
    return parse_header(read_source(path), path)


def read_source(path: Path) -> str:
    """The text of a channel file. Raises ChannelLoadError when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ChannelLoadError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ChannelLoadError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error


def parse_header(source: str, path: Path) -> Header:
    """The header in `source`; `path` is for the words of a ChannelLoadError only."""
    block = _find_block(source, path)
    try:
        # Blank lines in front make the line numbers in the parser's words those of the file.
        table = tomllib.loads("\n" * block.first + block.toml)
    except tomllib.TOMLDecodeError as error:
        # Its column counts from after the comment sign, so it would be wrong in the file.
        words = re.sub(r", column \d+", "", str(error))
        raise ChannelLoadError(
            f"{path}: the header in lines {block.first} to {block.last} is not TOML: {words}",
            hint=f"a header looks like this:\n{_EXAMPLE}",
        ) from error
    try:
        script = _Script.model_validate(table)
    except ValidationError as error:
        raise _wrong_value(error, path, block) from error
    ours = script.tool.nanohost
    settings = tuple(Setting(**one.model_dump()) for one in ours.settings)
    return Header(name=ours.name, api=ours.api, dependencies=tuple(script.dependencies), settings=settings)


def _find_block(source: str, path: Path) -> _Block:
    lines = [line.rstrip("\r") for line in source.split("\n")]
    openings = [at for at, line in enumerate(lines) if line == _OPENING]
    if not openings:
        raise ChannelLoadError(f"{path} has no channel header", hint=f"start the file with\n{_EXAMPLE}")
    if len(openings) > 1:
        raise ChannelLoadError(
            f"{path} has a second header in line {openings[1] + 1}", hint=f"keep one block that starts {_OPENING!r}"
        )
    start = openings[0]
    end = _closing_line(lines, start, path)
    toml = "".join(f"{line[2:]}\n" for line in lines[start + 1 : end])
    return _Block(toml=toml, first=start + 1, last=end + 1)


def _closing_line(lines: list[str], start: int, path: Path) -> int:
    """PEP 723: the last closing line of the unbroken run of comments ends the block."""
    end = None
    for at in range(start + 1, len(lines)):
        if lines[at] != "#" and not lines[at].startswith("# "):
            break
        if lines[at] == _CLOSING:
            end = at
    if end is None:
        raise ChannelLoadError(
            f"{path}: the header that starts in line {start + 1} is never closed",
            hint=f"end it with a line {_CLOSING!r}; every line before that starts with '# '",
        )
    return end


def _wrong_value(error: ValidationError, path: Path, block: _Block) -> ChannelLoadError:
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"] if isinstance(part, str)]
    key = ".".join(parts)
    return ChannelLoadError(
        f"{path}: {key} in the header (lines {block.first} to {block.last}): {first['msg']}",
        hint=_WRITE_THIS.get(key, "remove it" if first["type"] == "extra_forbidden" else ""),
    )
