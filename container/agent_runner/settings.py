"""Reads the runner's settings: arguments that identify it, and an environment without secrets."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanohost_protocol.layout import WORKSPACE, SessionLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One runner's settings. `lease` marks its claims; `tools` is "all" or "none", `network` "none" or "open"; a zero
    `idle_exit_s` means never. `extensions` holds the install's own `providers` and `tools`, if it has any."""

    install: str
    session: str
    lease: str
    workspace: Path = WORKSPACE
    provider: str = "demo"
    model: str | None = None
    tools: str = "all"
    network: str = "none"
    timezone: str = "UTC"
    poll_interval_s: float = 1.0
    idle_exit_s: float = 0.0
    extensions: Path | None = None

    @property
    def layout(self) -> SessionLayout:
        return SessionLayout(self.workspace)


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Reads the settings from command line and environment. Raises ValueError that names the invalid variable."""
    named = _make_parser().parse_args(arguments)
    return Settings(
        install=named.install,
        session=named.session,
        lease=named.lease,
        workspace=Path(environment.get("NANOHOST_WORKSPACE") or WORKSPACE),
        provider=environment.get("NANOHOST_PROVIDER") or "demo",
        model=environment.get("NANOHOST_MODEL") or None,
        tools=_parse_choice(environment, "NANOHOST_AGENT_TOOLS", "all", "none"),
        network=_parse_choice(environment, "NANOHOST_NETWORK", "none", "open"),
        timezone=environment.get("NANOHOST_TIMEZONE") or "UTC",
        poll_interval_s=_parse_seconds(environment, "NANOHOST_POLL_INTERVAL_S", 1.0),
        idle_exit_s=_parse_seconds(environment, "NANOHOST_IDLE_EXIT_S", 0.0),
        extensions=Path(found) if (found := environment.get("NANOHOST_EXTENSIONS")) else None,
    )


def _make_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m agent_runner", description="Runs the agent of one nanohost session.")
    for name in ("install", "session", "lease"):
        parser.add_argument(f"--{name}", required=True, help=f"the {name} this runner belongs to")
    return parser


def _parse_choice(environment: Mapping[str, str], name: str, default: str, other: str) -> str:
    found = environment.get(name, default)
    if found not in {default, other}:
        raise ValueError(f"{name} is {found!r}; it must be {default} or {other}")
    return found


def _parse_seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; it must be a number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} is {text!r}; it must be zero or more seconds")
    return seconds
