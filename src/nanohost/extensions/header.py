"""Reads the header of an extension file without importing the file.

The header is an inline-metadata block as Python defines it (PEP 723): comment lines between `# /// script` and
`# ///` that hold TOML. Reading it never runs a line of the file: one with a missing library, or one written for another
version, can still be listed by name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nanohost.errors import NanohostError

OPENING = "# /// script"
_CLOSING = "# ///"

T = TypeVar("T", bound=BaseModel)


class Tool(BaseModel, Generic[T]):
    """The table [tool], which may hold tables of other tools beside ours."""

    model_config = ConfigDict(strict=True, extra="ignore")
    nanohost: T


class Script(BaseModel, Generic[T]):
    """The content of a header. `dependencies`: requirements in pip's format."""

    model_config = ConfigDict(strict=True, extra="forbid")
    requires_python: Annotated[str | None, Field(alias="requires-python")] = None
    dependencies: list[str] = []
    tool: Tool[T]


def api_mismatch(kind: str, path: Path, *, declared: int, supported: int) -> tuple[str, str] | None:
    """Returns the error and the hint for a file that is written for another version of our API; None if it is not."""
    if declared == supported:
        return None
    hint = (
        "update nanohost" if declared > supported else f"look for a version of {path.stem} for {kind} API {supported}"
    )
    return f"{path} is written for {kind} API {declared}; this nanohost speaks {supported}", hint


def common_key_hints(kind: str) -> dict[str, str]:
    """Returns hints for the keys that every header has: what to write if one is wrong."""
    tool = f'write a table [tool.nanohost] with kind = "{kind}" and api = 1'
    return {
        "dependencies": 'write a list of requirements: dependencies = ["httpx>=0.28"]',
        "tool": tool,
        "tool.nanohost": tool,
        "tool.nanohost.kind": f'write kind = "{kind}"',
        "tool.nanohost.api": "write the number, without quotes: api = 1",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderSpec(Generic[T]):
    """A kind of header: the kind of its file, its content, an example, hints by key, and the error to raise."""

    kind: str
    script: type[Script[T]]
    example: str
    key_hints: Mapping[str, str] = field(default_factory=dict)
    error_type: type[NanohostError]

    def read_source(self, path: Path) -> str:
        """Returns the text of a file. Raises `error_type` if it cannot be read or is not UTF-8."""
        try:
            return path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise self.error_type(f"{path} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise self.error_type(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error

    def parse(self, source: str, path: Path) -> Script[T]:
        """Returns the header in `source`. Raises `error_type` with the line or key; `path` is only for its message."""
        block = self._find_block(source, path)
        try:
            # Blank lines in front make the parser's line numbers those of the file.
            table = tomllib.loads("\n" * block.first + block.toml)
        except tomllib.TOMLDecodeError as error:
            # The column counts from after the comment sign, so it would be wrong in the file.
            message = re.sub(r", column \d+", "", str(error))
            raise self.error_type(
                f"{path}: the header in lines {block.first} to {block.last} is not TOML: {message}",
                hint=f"a header looks like this:\n{self.example}",
            ) from error
        try:
            return self.script.model_validate(table)
        except ValidationError as error:
            raise self._validation_error(error, path, block) from error

    def _find_block(self, source: str, path: Path) -> _Block:
        lines = [line.rstrip("\r") for line in source.split("\n")]
        openings = [at for at, line in enumerate(lines) if line == OPENING]
        if not openings:
            raise self.error_type(f"{path} has no {self.kind} header", hint=f"start the file with\n{self.example}")
        if len(openings) > 1:
            raise self.error_type(
                f"{path} has a second header in line {openings[1] + 1}", hint=f"keep one block that starts {OPENING!r}"
            )
        start = openings[0]
        end = self._find_closing_line(lines, start, path)
        toml = "".join(f"{line[2:]}\n" for line in lines[start + 1 : end])
        return _Block(toml=toml, first=start + 1, last=end + 1)

    def _find_closing_line(self, lines: list[str], start: int, path: Path) -> int:
        """Returns the last closing line of the unbroken run of comments, which ends the block by PEP 723."""
        end = None
        for at in range(start + 1, len(lines)):
            if lines[at] != "#" and not lines[at].startswith("# "):
                break
            if lines[at] == _CLOSING:
                end = at
        if end is None:
            raise self.error_type(
                f"{path}: the header that starts in line {start + 1} is never closed",
                hint=f"end it with a line {_CLOSING!r}; every line before that starts with '# '",
            )
        return end

    def _validation_error(self, error: ValidationError, path: Path, block: _Block) -> NanohostError:
        first = error.errors(include_url=False)[0]
        parts = [str(part) for part in first["loc"] if isinstance(part, str)]
        key = ".".join(parts)
        return self.error_type(
            f"{path}: {key} in the header (lines {block.first} to {block.last}): {first['msg']}",
            hint=self.key_hints.get(key, "remove it" if first["type"] == "extra_forbidden" else ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """The TOML between the markers; `first` and `last` are the markers' line numbers in the file."""

    toml: str
    first: int
    last: int
