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
    """Raises SettingsError for names that are no actions: a no that is spelled wrong would be none."""
    mistakes = ProblemCollector(Path(SETTINGS_FILE))
    validate_names(table, mistakes)
    mistakes.raise_if_any()
    return {name: Permission(word) for name, word in table.items()}


def validate_names(
    table: Mapping[str, object], mistakes: ProblemCollector, extension_names: Callable[[], Collection[str]] = tuple
) -> None:
    """Each name that is no action is a mistake. `extension_names` names those of an install that no host has registered
    so far."""
    unknown = [name for name in table if name not in registered_actions()]
    known_there = extension_names() if unknown else ()
    for name in [name for name in unknown if name not in known_there]:
        said = f"[guard] names {name}, and there is no such action"
        mistakes.add_for_key(f"guard.{name}", said, hint=suggest_name(name, {*registered_actions(), *known_there}))
