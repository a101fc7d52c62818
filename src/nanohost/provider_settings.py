"""What thinks, as the operator set it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from nanohost.gateway.settings import ModelSettings
from nanohost.providers import provider_names
from nanohost.section import AUTO, Section, extension, setting
from nanohost.settings import Settings

DEMO = "demo"
"""The provider that asks nobody: for a first look without a key."""


class ProviderSettings(Section):
    table: ClassVar = "host"

    provider: Annotated[str, extension("provider", provider_names)] = setting(
        AUTO,
        place=20,
        title="What thinks. `auto`: Claude when there is a key or a base_url, else the demo.",
        wanted="auto, claude, demo, scripted or the name of a file in providers/",
    )


class AgentSettings(Section):
    """What a provider is told, where its agent group says nothing else."""

    table: ClassVar = "agent"

    model: str | None = setting(
        None,
        place=310,
        title="Which model is asked. Default: the provider's choice.",
        wanted="a model's name",
        min_length=1,
    )
    tools: Literal["all", "none"] = setting(
        "all",
        place=340,
        title="Whether Claude has its own tools (shell, files, memory) beside ours.",
        wanted="all or none",
    )


def provider_for(settings: Settings) -> str:
    """The provider that `auto` stands for: claude when there is a key or an address to ask, else demo."""
    wanted, model = settings.of(ProviderSettings).provider, settings.of(ModelSettings)
    if wanted != AUTO:
        return wanted
    return "claude" if model.api_key or model.base_url else DEMO
