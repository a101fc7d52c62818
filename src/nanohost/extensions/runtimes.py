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
from nanohost.extensions.files import find_extension_file, install_hint, list_extension_files, missing_requirements
from nanohost.extensions.header import OPENING, HeaderSpec, Script, api_mismatch, common_key_hints

API_VERSION = 1
"""Of nanohost.runtimes.port, as a header names it."""
RUNTIMES_DIR_NAME = "runtimes"
SHIPPED_DIR = Path(__file__).parent.parent / RUNTIMES_DIR_NAME

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
    """What a runtime's file says of itself. `auto_priority`: when it is tried where none is asked for, the lowest
    first; None: never."""

    name: str
    path: Path
    auto_priority: int | None = None

    @property
    def is_shipped(self) -> bool:
        return self.path.parent == SHIPPED_DIR


class _HeaderTable(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: Literal["runtime"]
    api: int
    auto: int | None = None


_HEADER_SPEC = HeaderSpec(
    kind="runtime",
    script=Script[_HeaderTable],
    example=_EXAMPLE,
    key_hints={
        **common_key_hints("runtime"),
        "tool.nanohost.auto": "write a number, such as auto = 15, or leave it out",
    },
    error_type=ExtensionError,
)


def runtime_names(root: Path) -> list[str]:
    """Of the install at `root`, whatever stands in their files, and those that came with nanohost."""
    return sorted({path.stem for path in _runtime_paths(root)})


def find_runtime(root: Path, name: str) -> RuntimeFile:
    """Reads the disk. Raises ExtensionError with what is wrong, and what to do."""
    path = find_extension_file("runtime", name, list(_runtime_paths(root)), install_dir=root / RUNTIMES_DIR_NAME)
    script = _HEADER_SPEC.parse(_HEADER_SPEC.read_source(path), path)
    ours = script.tool.nanohost
    if wrong := api_mismatch("runtime", path, declared=ours.api, supported=API_VERSION):
        raise ExtensionError(wrong[0], hint=wrong[1])
    if missing := missing_requirements(script.dependencies):
        raise ExtensionError(
            f"{path} needs {', '.join(missing)}, which is not installed", hint=install_hint(script.dependencies)
        )
    return RuntimeFile(name=name, path=path, auto_priority=ours.auto)


def auto_candidates(root: Path) -> list[RuntimeFile]:
    """Those that are tried where none is asked for, in that order. One that cannot be used is logged and left out."""
    found = [(file.auto_priority, file.name, file) for file in _usable_runtimes(root) if file.auto_priority is not None]
    return [file for *_, file in sorted(found, key=lambda one: one[:2])]


def _usable_runtimes(root: Path) -> Iterator[RuntimeFile]:
    for name in runtime_names(root):
        try:
            yield find_runtime(root, name)
        except ExtensionError as error:
            _log.warning("runtime_unusable", runtime=name, why=str(error), hint=error.hint)


def _runtime_paths(root: Path) -> Iterator[Path]:
    """Of the shipped ones those with a header: beside them is what they are made of."""
    yield from (path for path in list_extension_files([SHIPPED_DIR]) if _has_header(path))
    yield from list_extension_files([root / RUNTIMES_DIR_NAME])


def _has_header(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip() == OPENING
