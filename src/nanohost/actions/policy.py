"""What the operator set for actions, as the guard takes it: the [guard] table of nanohost.toml, names checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nanohost.actions.registry import registered
from nanohost.guard.guard import Policy
from nanohost.guard.ruling import Ruling
from nanohost.mistakes import Mistakes
from nanohost.phrases import nearest
from nanohost.settings import FILE


def policy_of(table: Mapping[str, str]) -> Policy:
    """Raises SettingsError for names that are no actions: a no that is spelled wrong would be none."""
    mistakes = Mistakes(Path(FILE))
    check_names(table, mistakes)
    mistakes.check()
    return {name: Ruling(word) for name, word in table.items()}


def check_names(table: Mapping[str, object], mistakes: Mistakes) -> None:
    """Each name that is no action is a mistake."""
    for name in [name for name in table if name not in registered()]:
        said = f"[guard] names {name}, and there is no such action"
        mistakes.at_key(f"guard.{name}", said, hint=nearest(name, registered()))
