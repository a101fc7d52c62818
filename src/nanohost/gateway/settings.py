"""Declares the settings of the gateway: the model's address and key, and how much a session may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import SecretStr

from nanohost.config.secrets import trim
from nanohost.config.section import Section, setting


class ModelSettings(Section):
    """`api_key` stays on the host."""

    table: ClassVar = "agent"

    base_url: str | None = setting(
        None,
        order=320,
        title="Where the model is asked. Default: ANTHROPIC_BASE_URL, else the public service.",
        expected="an address that starts http:// or https://",
        pattern=r"\Ahttps?://",
    )
    api_key: SecretStr | None = setting(
        None,
        order=330,
        title="The model's key; it never enters a container. Default: ANTHROPIC_API_KEY, else ANTHROPIC_AUTH_TOKEN.",
        expected="a key, env:NAME or file:PATH",
    )

    @property
    def key(self) -> str | None:
        """The key for the model. Never show it."""
        return self.api_key.get_secret_value() if self.api_key else None

    @classmethod
    def defaults(cls, environ: Mapping[str, str]) -> Mapping[str, object]:
        """Returns settings from the variables of other tools for the same model; nanohost's own take precedence."""
        url = environ.get("ANTHROPIC_BASE_URL")
        key = trim(environ.get("ANTHROPIC_API_KEY", "")) or trim(environ.get("ANTHROPIC_AUTH_TOKEN", ""))
        return ({"base_url": url} if url else {}) | ({"api_key": SecretStr(key)} if key else {})


class CallSettings(Section):
    table: ClassVar = "host"

    session_calls_per_hour: int = setting(
        7_200,
        order=200,
        title="How many requests of one session to the model are served in an hour, and a sixth of that may fail.",
        expected="a whole number, 36 or more",
        ge=36,
    )
    """Two per second, and 1,200 at once: an agent with ten subagents that each call the model every three seconds can
    work for fifteen minutes before it is throttled. Most calls take several seconds."""
