"""Reads the operator's policy for actions from [guard] in nanohost.toml, and checks the names. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from nanohost.actions.registry import registered_actions
from nanohost.config.mistakes import ProblemCollector
from nanohost.config.settings import SETTINGS_FILE
from nanohost.guard.guard import GuardPolicy, Permission
from nanohost.text.phrases import suggest_name


def parse_policy(table: Mapping[str, str]) -> GuardPolicy:
    """Parses the policy. Raises SettingsError for unknown actions: a misspelled denial would have no effect."""
    mistakes = ProblemCollector(Path(SETTINGS_FILE))
    validate_names(table, mistakes)
    mistakes.raise_if_any()
    return {name: Permission(word) for name, word in table.items()}


def validate_names(
    table: Mapping[str, object], mistakes: ProblemCollector, extension_names: Callable[[], Collection[str]] = tuple
) -> None:
    """Reports each name that is no action. `extension_names`: returns the actions of an install's own files, if no host
    has registered them."""
    unknown = [name for name in table if name not in registered_actions()]
    known_there = extension_names() if unknown else ()
    for name in [name for name in unknown if name not in known_there]:
        said = f"[guard] names {name}, and there is no such action"
        mistakes.add_for_key(f"guard.{name}", said, hint=suggest_name(name, {*registered_actions(), *known_there}))
