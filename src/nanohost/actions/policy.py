"""What the operator set for actions, as the guard takes it: the [guard] table of nanohost.toml, names checked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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


def check_names(table: Mapping[str, object], mistakes: Mistakes, own: Callable[[], Collection[str]] = tuple) -> None:
    """Each name that is no action is a mistake. `own` names those of an install that no host has registered so far."""
    unknown = [name for name in table if name not in registered()]
    known_there = own() if unknown else ()
    for name in [name for name in unknown if name not in known_there]:
        said = f"[guard] names {name}, and there is no such action"
        mistakes.at_key(f"guard.{name}", said, hint=nearest(name, {*registered(), *known_there}))
