"""Which runtimes there are. A runtime is one file, and its name is the file's: those that came with nanohost are in
`nanohost/runtimes/`, among what they are made of; an install's own are in its `runtimes/`.

Their headers are read here, and none is imported: see nanohost.runtimes.choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict

from nanohost.errors import ExtensionError
from nanohost.extension_files import file_of, install_hint, named_files, not_installed
from nanohost.script_header import OPENING, Form, Script, api_mismatch, usual_remedies

API_VERSION = 1
"""Of nanohost.runtimes.port, as a header names it."""
FOLDER = "runtimes"
SHIPPED = Path(__file__).parent / FOLDER

_EXAMPLE = """\
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "runtime"
# api = 1
# ///"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFile:
    """What a runtime's file says of itself. `auto`: when it is tried where none is asked for, the lowest first; None:
    never."""

    name: str
    path: Path
    auto: int | None = None

    @property
    def is_shipped(self) -> bool:
        return self.path.parent == SHIPPED


class _Nanohost(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: Literal["runtime"]
    api: int
    auto: int | None = None


_FORM = Form(
    kind="runtime",
    script=Script[_Nanohost],
    example=_EXAMPLE,
    write_this={
        **usual_remedies("runtime"),
        "tool.nanohost.auto": "write a number, such as auto = 15, or leave it out",
    },
    error=ExtensionError,
)


def runtime_names(root: Path) -> list[str]:
    """Of the install at `root`, whatever stands in their files, and those that came with nanohost."""
    return sorted({path.stem for path in _files(root)})


def find_runtime(root: Path, name: str) -> RuntimeFile:
    """Reads the disk. Raises ExtensionError with what is wrong, and what to do."""
    path = file_of("runtime", name, list(_files(root)), place=root / FOLDER)
    script = _FORM.parse(_FORM.source(path), path)
    ours = script.tool.nanohost
    if wrong := api_mismatch("runtime", path, written=ours.api, spoken=API_VERSION):
        raise ExtensionError(wrong[0], hint=wrong[1])
    if missing := not_installed(script.dependencies):
        raise ExtensionError(
            f"{path} needs {', '.join(missing)}, which is not installed", hint=install_hint(script.dependencies)
        )
    return RuntimeFile(name=name, path=path, auto=ours.auto)


def automatic(root: Path) -> list[RuntimeFile]:
    """Those that are tried where none is asked for, in that order. One that cannot be used is logged and left out."""
    found = [(file.auto, file.name, file) for file in _usable(root) if file.auto is not None]
    return [file for *_, file in sorted(found, key=lambda one: one[:2])]


def _usable(root: Path) -> Iterator[RuntimeFile]:
    for name in runtime_names(root):
        try:
            yield find_runtime(root, name)
        except ExtensionError as error:
            _log.warning("runtime_not_usable", runtime=name, why=str(error), hint=error.hint)


def _files(root: Path) -> Iterator[Path]:
    """Of the shipped ones those with a header: beside them is what they are made of."""
    yield from (path for path in named_files([SHIPPED]) if _has_header(path))
    yield from named_files([root / FOLDER])


def _has_header(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip() == OPENING
