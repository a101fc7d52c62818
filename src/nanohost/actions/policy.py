"""What the operator set for actions, as the guard takes it: the [guard] table of nanohost.toml, names checked. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from nanohost.actions.registry import registered
from nanohost.errors import SettingsError
from nanohost.guard.guard import Policy
from nanohost.guard.ruling import Ruling


def policy_of(table: Mapping[str, str]) -> Policy:
    """Raises SettingsError for names that are no actions: a no that is spelled wrong would be none."""
    wrong = [name for name in table if name not in registered()]
    if wrong:
        said = f"nanohost.toml: [guard] names {', '.join(wrong)}, and there is no such action"
        raise SettingsError(said, hint=_meant(wrong))
    return {name: Ruling(word) for name, word in table.items()}


def _meant(wrong: Sequence[str]) -> str:
    close = [near[0] for name in wrong if (near := difflib.get_close_matches(name, registered(), n=1))]
    return f"did you mean {', '.join(close)}?" if len(close) == len(wrong) else f"known here: {', '.join(registered())}"
