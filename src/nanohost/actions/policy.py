"""What the operator set for actions, as the guard takes it: the [guard] table of nanohost.toml, names checked. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from nanohost.actions.registry import registered
from nanohost.errors import SettingsError
from nanohost.guard.guard import Policy
from nanohost.guard.ruling import Ruling


def policy_of(table: Mapping[str, str]) -> Policy:
    """Raises SettingsError for a name that is no action: a no that is spelled wrong would be none."""
    for name in table:
        if name not in registered():
            close = difflib.get_close_matches(name, registered(), n=1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(registered())}"
            raise SettingsError(f"nanohost.toml: [guard] names {name}, and there is no such action", hint=hint)
    return {name: Ruling(word) for name, word in table.items()}
