"""What the operator sets for actions in nanohost.toml."""

from __future__ import annotations

import pytest

from nanohost.actions.policy import parse_policy
from nanohost.errors import SettingsError
from nanohost.guard.guard import Permission


def test_the_policy_is_parsed_by_action() -> None:
    assert parse_policy({"tasks.create": "hold", "model.change": "deny"}) == {
        "tasks.create": Permission.HOLD,
        "model.change": Permission.DENY,
    }


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("name", "hint"), [("tasks.craete", "did you mean tasks.create?"), ("x", "known here: destinations.add, messages")]
)
def test_an_unknown_action_in_the_policy_is_refused_with_the_known_ones(name: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[guard\] names {name}, and there is no such action") as raised:
        parse_policy({name: "deny"})
    assert hint in raised.value.hint
