"""Finds runtimes and reads their headers. A runtime is one file with its name: the shipped ones are in
`nanohost/runtimes/`, beside the modules that they use; an install's own are in its `runtimes/`.

Nothing is imported here: see nanohost.runtimes.choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict

from nanohost.errors import ExtensionError
from nanohost.extensions.header import OPENING, HeaderSpec, Script, api_mismatch, common_key_hints
from nanohost.extensions.loader import find_extension_file, install_hint, list_extension_files, missing_requirements

API_VERSION = 1
"""The version of the API of nanohost.runtimes.runtime_api, as in a header."""
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
    """The header of a runtime's file. `auto_priority`: its order if the runtime is `auto`, the lowest first; None: it
    is never chosen automatically."""

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
    """Returns the names of the runtime files of the install at `root`, valid or not, and of the shipped ones."""
    return sorted({path.stem for path in _runtime_paths(root)})


def find_runtime(root: Path, name: str) -> RuntimeFile:
    """Find a runtime and read its header from disk. Raises ExtensionError with what is wrong, and what to do."""
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
    """Returns the runtimes that are tried for `auto`, in order. One that cannot be used is logged and left out."""
    found = [(file.auto_priority, file.name, file) for file in _usable_runtimes(root) if file.auto_priority is not None]
    return [file for *_, file in sorted(found, key=lambda one: one[:2])]


def _usable_runtimes(root: Path) -> Iterator[RuntimeFile]:
    for name in runtime_names(root):
        try:
            yield find_runtime(root, name)
        except ExtensionError as error:
            _log.warning("runtime_unusable", runtime=name, why=str(error), hint=error.hint)


def _runtime_paths(root: Path) -> Iterator[Path]:
    """Yields the shipped files with a header, without the modules that they use, and the install's files."""
    yield from (path for path in list_extension_files([SHIPPED_DIR]) if _has_header(path))
    yield from list_extension_files([root / RUNTIMES_DIR_NAME])


def _has_header(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip() == OPENING
