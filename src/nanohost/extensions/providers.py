"""Finds providers, the model backends of the runner, and reads their headers. A provider is one file with its name: the
shipped ones are in `agent_runner/providers/`, an install's own in its `providers/`.

The runner imports the file; the host only reads its header and never runs it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nanohost.errors import ExtensionError
from nanohost.extensions.header import HeaderSpec, Script, api_mismatch, common_key_hints
from nanohost.extensions.loader import find_extension_file, list_extension_files, missing_requirements
from nanohost_protocol.layout import PROVIDERS

API_VERSION = 1
"""The version of the API of agent_runner.providers, as in a header."""

_EXAMPLE = """\
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "provider"
# api = 1
# ///"""


class UnsandboxedPolicy(StrEnum):
    """Whether a provider may run without a sandbox. Our own tools only write rows that the host checks; a provider's
    own tools run programs and change files where the runner runs."""

    NEVER = "never"
    """It always has tools of its own. The default for a header without this key."""
    WITHOUT_TOOLS = "without_tools"
    """It has no tools of its own if `[agent] tools` is none."""
    ALWAYS = "always"
    """It never has tools of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFile:
    """The header of a provider's file. `uses_gateway`: it calls the model of `[agent]` through the host's gateway.
    `dependencies`: requirements in pip's format; in a container they come from its image."""

    name: str
    path: Path
    unsandboxed: UnsandboxedPolicy = UnsandboxedPolicy.NEVER
    uses_gateway: bool = False
    dependencies: tuple[str, ...] = ()

    def can_run_unsandboxed(self, tools: str) -> bool:
        """Whether it may run without a sandbox with this `[agent] tools` (all or none)."""
        if self.unsandboxed is UnsandboxedPolicy.WITHOUT_TOOLS:
            return tools == "none"
        return self.unsandboxed is UnsandboxedPolicy.ALWAYS

    def missing_dependencies(self) -> list[str]:
        """Returns its requirements that are not installed."""
        return missing_requirements(self.dependencies)


class _HeaderTable(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: Literal["provider"]
    api: int
    unsandboxed: Literal["never", "without_tools", "always"] = "never"
    gateway: bool = False


_HEADER_SPEC = HeaderSpec(
    kind="provider",
    script=Script[_HeaderTable],
    example=_EXAMPLE,
    key_hints={
        **common_key_hints("provider"),
        "tool.nanohost.unsandboxed": 'write "never", "without_tools" or "always", or leave it out: never',
        "tool.nanohost.gateway": "write gateway = true, or leave it out",
    },
    error_type=ExtensionError,
)


def provider_folders(root: Path) -> tuple[Path, ...]:
    """Returns the folders of providers: the runner's, then that of the install at `root`."""
    return (*_shipped_folders(), root / PROVIDERS)


def provider_names(root: Path) -> list[str]:
    """Returns the names of all provider files, valid or not."""
    return sorted({path.stem for path in list_extension_files(provider_folders(root))})


def find_provider(root: Path, name: str) -> ProviderFile:
    """Find a provider and read its header from disk. Raises ExtensionError with what is wrong, and what to do."""
    path = find_extension_file(
        "provider", name, list(list_extension_files(provider_folders(root))), install_dir=root / PROVIDERS
    )
    script = _HEADER_SPEC.parse(_HEADER_SPEC.read_source(path), path)
    ours = script.tool.nanohost
    if wrong := api_mismatch("provider", path, declared=ours.api, supported=API_VERSION):
        raise ExtensionError(wrong[0], hint=wrong[1])
    return ProviderFile(
        name=name,
        path=path,
        unsandboxed=UnsandboxedPolicy(ours.unsandboxed),
        uses_gateway=ours.gateway,
        dependencies=tuple(script.dependencies),
    )


def uses_gateway(root: Path, name: str) -> bool:
    """Whether this provider uses the gateway; False if it cannot be used. Reads the disk."""
    try:
        return find_provider(root, name).uses_gateway
    except ExtensionError:
        return False


def _shipped_folders() -> tuple[Path, ...]:
    """Returns the folders of shipped providers, without importing the runner."""
    runner = importlib.util.find_spec("agent_runner")
    places = (runner.submodule_search_locations or ()) if runner is not None else ()
    return tuple(Path(place) / PROVIDERS for place in places)
