"""Loads the extension files that the host itself runs: actions and chat commands. They can do what nanohost can.

A file that cannot be used is logged with the reason, and does not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict

from nanohost.errors import ExtensionError
from nanohost.extensions.header import HeaderSpec, Script, api_mismatch
from nanohost.extensions.loader import import_file, install_hint, list_python_files, missing_requirements

API_VERSION = 1
"""The version of the API that such files import, as in their header."""

_EXAMPLE = """\
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "{kind}"
# api = 1
# ///"""

_log = structlog.get_logger(__name__)


class _HeaderTable(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: str
    api: int


def load_extensions(kind: str, folder: Path, attribute: str, register: Callable[[object], None]) -> None:
    """Call `register` with the value of `attribute` of each file of this kind. `register` raises ExtensionError for an
    invalid value.

    Blocking: it imports the files. Never raises.
    """
    for path in list_python_files([folder]):
        try:
            register(_load_attribute(kind, path, attribute))
        except ExtensionError as error:
            _log.error("extension_load_failed", kind=kind, file=str(path), why=str(error), hint=error.hint)


def _load_attribute(kind: str, path: Path, attribute: str) -> object:
    _check_header(kind, path)
    try:
        module = import_file(path, f"{kind}_{path.stem}")
    except (Exception, SystemExit) as error:
        raise ExtensionError(f"it cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise ExtensionError(f"it has no {attribute}", hint=f"docs/how-to/add-{_how_to_page(kind)}.md has an example")
    value: object = getattr(module, attribute)
    return value


def _check_header(kind: str, path: Path) -> None:
    example = _EXAMPLE.format(kind=kind)
    form = HeaderSpec(kind=kind, script=Script[_HeaderTable], example=example, error_type=ExtensionError)
    script = form.parse(form.read_source(path), path)
    ours = script.tool.nanohost
    if ours.kind != kind:
        raise ExtensionError(f"it is a {ours.kind[:40]}, and lies among the {kind}s", hint=f'write kind = "{kind}"')
    if wrong := api_mismatch(kind, path, declared=ours.api, supported=API_VERSION):
        raise ExtensionError(wrong[0], hint=wrong[1])
    if missing := missing_requirements(script.dependencies):
        raise ExtensionError(f"it needs {', '.join(missing)}, which is not installed", hint=install_hint(missing))


def _how_to_page(kind: str) -> str:
    return {"action": "an-action", "chat_command": "a-chat-command"}.get(kind, kind)
