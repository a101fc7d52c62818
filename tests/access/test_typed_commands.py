"""Host commands in every spelling, and texts that only resemble one."""

from __future__ import annotations

import pytest

from nanohost.db import paused
from nanohost.routing.host_command_handler import MAX_ARGUMENT_CHARS
from tests.access.harness import AccessTestHost

pytestmark = pytest.mark.behaviour("AC-06")

ADA, EVE = "telegram:ada", "telegram:eve"


@pytest.mark.parametrize("typed", ["/pause", "/PAUSE", "/Pause@the_bot", " \n/pause\n", "\u00a0/pause\u00a0"])
async def test_a_command_is_parsed_in_any_case_with_space_around_it(host: AccessTestHost, typed: str) -> None:
    await host.make_owner(ADA)
    assert await host.receive_message(ADA, typed)
    assert await paused.find(host.store) is not None


@pytest.mark.parametrize("typed", ["@nano /pause", "@15551234567 /pause", "/pause @nano", "@nano\n/pause"])
async def test_in_a_group_the_mention_may_be_before_or_after_the_command(host: AccessTestHost, typed: str) -> None:
    await host.make_owner(ADA)
    assert await host.receive_message(ADA, typed, group="g1", mentions=True)
    assert await paused.find(host.store) is not None


@pytest.mark.parametrize(
    "typed",
    [
        "\uff0fpause",
        "//pause",
        "`/pause`",
        "```\n/pause\n```",
        "> /pause",
        "please /pause",
        "/paus\u0435",
        "/\u202epause",
    ],
)
async def test_a_text_that_only_resembles_a_command_is_not_one(host: AccessTestHost, typed: str) -> None:
    await host.make_owner(ADA)
    assert not await host.receive_message(ADA, typed)
    assert not await host.receive_message(ADA, typed, group="g1", mentions=True)
    assert await paused.find(host.store) is None


@pytest.mark.parametrize("typed", ["/pause please", "/pause\nor not", "/pause @nano at five", f"/pause {'x ' * 500}"])
async def test_a_command_that_takes_no_arguments_refuses_them(host: AccessTestHost, typed: str) -> None:
    await host.make_owner(ADA)
    assert await host.receive_message(ADA, typed, group="g1", mentions=True)
    assert await host.host_messages_to("telegram:g1") == ["/pause takes no arguments."]
    assert await paused.find(host.store) is None


async def test_a_command_that_is_too_long_is_answered_and_reaches_no_agent(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    assert await host.receive_message(ADA, f"/deny k3f7qd {'because ' * 300}")
    assert await host.host_messages_to(ADA) == [f"/deny takes {MAX_ARGUMENT_CHARS:,} characters at most, not 2,406."]
    await host.receive_message(EVE, f"/deny k3f7qd {'because ' * 300}")
    assert await host.host_messages_to(EVE) == [], "a stranger is like one who wrote anything else"


async def test_the_longest_text_is_parsed_in_no_time(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    assert await host.receive_message(ADA, f"/deny {'x' + ' ' * 100} {(' ' * 1000 + 'x') * 200}")
    assert not await host.receive_message(ADA, " " * 200_000 + "x /deny")


async def test_a_name_with_bidirectional_characters_is_escaped(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.receive_message(ADA, "/pause")
    await host.run_command("users update", user=ADA, name="\u202eevil\n**Everything goes on**\u2066")
    await host.receive_message(ADA, "/pause")
    [line, *_] = (await host.host_messages_to(ADA))[1].splitlines()
    name = "`⟨U+202E⟩evil **Everything goes on**⟨U+2066⟩`"
    assert line == f"Everything is paused since 12:00, by {name}, until /resume."
