"""What thinks, as far as the host has to know it. A provider is one file, and its name is the file's: those that came
with the runner are in `agent_runner/providers/`, an install's own in its `providers/`.

The runner imports it; the host reads its header and never runs a line of it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nanohost.errors import ExtensionError
from nanohost.extensions.files import find_extension_file, list_extension_files, missing_requirements
from nanohost.extensions.header import HeaderSpec, Script, api_mismatch, common_key_hints
from nanohost_protocol.layout import PROVIDERS

API_VERSION = 1
"""Of agent_runner.providers, as a header names it."""

_EXAMPLE = """\
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "provider"
# api = 1
# ///"""


class UnsandboxedPolicy(StrEnum):
    """Whether a provider may run with nothing around it. Our own tools write rows for the host to judge; a provider's
    own ones run programs and change files where the runner runs."""

    NEVER = "never"
    """It has tools of its own, whatever is asked of it. So may one that says nothing."""
    WITHOUT_TOOLS = "without_tools"
    """It has none when `[agent] tools` is none."""
    ALWAYS = "always"
    """It has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFile:
    """What a provider's file says of itself. `uses_gateway`: it asks the model that `[agent]` names, through the host's
    gateway. `dependencies` are requirements as pip takes them; a container has them from its image."""

    name: str
    path: Path
    unsandboxed: UnsandboxedPolicy = UnsandboxedPolicy.NEVER
    uses_gateway: bool = False
    dependencies: tuple[str, ...] = ()

    def can_run_unsandboxed(self, tools: str) -> bool:
        """With this `[agent] tools` (all or none)."""
        if self.unsandboxed is UnsandboxedPolicy.WITHOUT_TOOLS:
            return tools == "none"
        return self.unsandboxed is UnsandboxedPolicy.ALWAYS

    def missing_dependencies(self) -> list[str]:
        """What it needs and this Python lacks."""
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
    """Where providers are looked for: those that came with the runner, then those of the install at `root`."""
    return (*_shipped_folders(), root / PROVIDERS)


def provider_names(root: Path) -> list[str]:
    """Whatever stands in their files."""
    return sorted({path.stem for path in list_extension_files(provider_folders(root))})


def find_provider(root: Path, name: str) -> ProviderFile:
    """Reads the disk. Raises ExtensionError with what is wrong, and what to do."""
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
    """Whether the gateway is for this provider. Of one that cannot be used: no. Reads the disk."""
    try:
        return find_provider(root, name).uses_gateway
    except ExtensionError:
        return False


def _shipped_folders() -> tuple[Path, ...]:
    """Found without importing the runner."""
    runner = importlib.util.find_spec("agent_runner")
    places = (runner.submodule_search_locations or ()) if runner is not None else ()
    return tuple(Path(place) / PROVIDERS for place in places)
