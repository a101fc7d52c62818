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
from nanohost.extension_files import file_of, named_files, not_installed
from nanohost.script_header import Form, Script, api_mismatch, usual_remedies
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


class Unsandboxed(StrEnum):
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
    """What a provider's file says of itself. `gateway`: it asks the model that `[agent]` names, through the host's
    gateway. `dependencies` are requirements as pip takes them; a container has them from its image."""

    name: str
    path: Path
    unsandboxed: Unsandboxed = Unsandboxed.NEVER
    gateway: bool = False
    dependencies: tuple[str, ...] = ()

    def may_run_unsandboxed(self, tools: str) -> bool:
        """With this `[agent] tools` (all or none)."""
        if self.unsandboxed is Unsandboxed.WITHOUT_TOOLS:
            return tools == "none"
        return self.unsandboxed is Unsandboxed.ALWAYS

    def missing(self) -> list[str]:
        """What it needs and this Python lacks."""
        return not_installed(self.dependencies)


class _Nanohost(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: Literal["provider"]
    api: int
    unsandboxed: Literal["never", "without_tools", "always"] = "never"
    gateway: bool = False


_FORM = Form(
    kind="provider",
    script=Script[_Nanohost],
    example=_EXAMPLE,
    write_this={
        **usual_remedies("provider"),
        "tool.nanohost.unsandboxed": 'write "never", "without_tools" or "always", or leave it out: never',
        "tool.nanohost.gateway": "write gateway = true, or leave it out",
    },
    error=ExtensionError,
)


def provider_folders(root: Path) -> tuple[Path, ...]:
    """Where providers are looked for: those that came with the runner, then those of the install at `root`."""
    return (*_shipped(), root / PROVIDERS)


def provider_names(root: Path) -> list[str]:
    """Whatever stands in their files."""
    return sorted({path.stem for path in named_files(provider_folders(root))})


def find_provider(root: Path, name: str) -> ProviderFile:
    """Reads the disk. Raises ExtensionError with what is wrong, and what to do."""
    path = file_of("provider", name, list(named_files(provider_folders(root))), place=root / PROVIDERS)
    script = _FORM.parse(_FORM.source(path), path)
    ours = script.tool.nanohost
    if wrong := api_mismatch("provider", path, written=ours.api, spoken=API_VERSION):
        raise ExtensionError(wrong[0], hint=wrong[1])
    return ProviderFile(
        name=name,
        path=path,
        unsandboxed=Unsandboxed(ours.unsandboxed),
        gateway=ours.gateway,
        dependencies=tuple(script.dependencies),
    )


def asks_a_model(root: Path, name: str) -> bool:
    """Whether the gateway is for this provider. Of one that cannot be used: no. Reads the disk."""
    try:
        return find_provider(root, name).gateway
    except ExtensionError:
        return False


def _shipped() -> tuple[Path, ...]:
    """Found without importing the runner."""
    runner = importlib.util.find_spec("agent_runner")
    places = (runner.submodule_search_locations or ()) if runner is not None else ()
    return tuple(Path(place) / PROVIDERS for place in places)
