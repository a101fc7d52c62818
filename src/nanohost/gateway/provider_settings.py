"""Declares the settings for the provider and its model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from nanohost.config.section import AUTO, Section, extension_name, setting
from nanohost.config.settings import Settings
from nanohost.extensions.providers import provider_names
from nanohost.gateway.settings import ModelSettings

DEMO = "demo"
"""The provider without a model, for a first try without a key."""


class ProviderSettings(Section):
    table: ClassVar = "host"

    provider: Annotated[str, extension_name("provider", provider_names)] = setting(
        AUTO,
        order=20,
        title="What thinks. `auto`: Claude when there is a key or a base_url, else the demo.",
        expected="auto, claude, demo, scripted or the name of a file in providers/",
    )


class AgentSettings(Section):
    """The defaults for agent groups that set nothing else."""

    table: ClassVar = "agent"

    model: str | None = setting(
        None,
        order=310,
        title="Which model is asked. Default: the provider's choice.",
        expected="a model's name",
        min_length=1,
    )
    tools: Literal["all", "none"] = setting(
        "all",
        order=340,
        title="Whether Claude has its own tools (shell, files, memory) beside ours.",
        expected="all or none",
    )


def resolve_provider(settings: Settings) -> str:
    """Returns the provider that `auto` stands for: claude if a key or an address is set, else demo."""
    wanted, model = settings.section(ProviderSettings).provider, settings.section(ModelSettings)
    if wanted != AUTO:
        return wanted
    return "claude" if model.api_key or model.base_url else DEMO
