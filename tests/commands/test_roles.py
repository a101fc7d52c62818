"""Roles on configured channels, and on others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nanohost.errors import UsageError
from tests.commands.conftest import Operator
from tests.commands.filled import ANN


def with_channels(operator: Operator, channels: dict[str, dict[str, object]]) -> Operator:
    """The operator, with these channels in nanohost.toml."""
    settings = replace(operator.context.settings, channels=channels)
    return replace(operator, context=replace(operator.context, settings=settings))


async def refusal(operator: Operator, words: str, arguments: dict[str, str]) -> UsageError:
    with pytest.raises(UsageError) as raised:
        await operator.run(words, **arguments)
    return raised.value


@pytest.mark.behaviour("AC-02")
@pytest.mark.parametrize("words", ["roles delete", "users delete"])
async def test_an_owner_on_an_unconfigured_channel_does_not_count_as_the_remaining_one(
    operator: Operator, words: str
) -> None:
    here = with_channels(operator, {"telegram": {}})
    gone = {"user": ANN, "role": "owner"} if words == "roles delete" else {"user": ANN}
    await here.run("roles create", user=ANN, role="owner")
    await here.run("roles create", user="telegran:2", role="owner")
    assert "is the last owner" in str(await refusal(here, words, gone))
    await here.run("roles delete", user="telegran:2", role="owner")
    assert "is the last owner" in str(await refusal(here, words, gone))
    await here.run("roles create", user="terminal:owner", role="owner")
    await here.run(words, **gone)
    assert [role["user"] for role in await here.run("roles list")] == ["terminal:owner"]


async def test_a_role_on_an_unconfigured_channel_is_granted_with_a_warning(operator: Operator) -> None:
    here = with_channels(operator, {"telegram": {"token": "t"}, "mail": {"a": {}}})
    for user in ("telegram:2", "mail:2", "terminal:owner"):
        assert "missing" not in await here.run("roles create", user=user, role="member")
    made = await here.run("roles create", user="telegran:2", role="member")
    assert made["granted"] == "now"
    assert made["missing"] == "no channel telegran is set up, but these are: mail, telegram, terminal"
