"""The list of commands: the classification of each by role and chat, and that the docs agree."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.chat_commands.agent_commands import AGENT_COMMANDS, Disposition
from nanohost.chat_commands.classify import (
    MENTION_REQUIRED,
    CommandDecision,
    Discard,
    ParsedCommand,
    PassThrough,
    classify_command,
)
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import refusal_text
from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.model import Role
from nanohost.routing.host_command_handler import parse_host_command

PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "chat-commands.md"
ROLES: dict[str, tuple[Role, ...]] = {
    "none": (),
    "member": (Role.MEMBER,),
    "admin": (Role.ADMIN,),
    "owner": (Role.OWNER,),
}
ENOUGH = {
    RequiredRole.ANYONE: {"none", "member", "admin", "owner"},
    RequiredRole.ANY_ROLE: {"member", "admin", "owner"},
    RequiredRole.ADMIN: {"admin", "owner"},
    RequiredRole.OWNER: {"owner"},
}
"""Which of these roles may use a command for those people, written down a second time."""


def _expected(name: str, role: str) -> CommandDecision:
    """The expected classification according to the lists."""
    rights = ROLES[role]
    is_admin = role in ENOUGH[RequiredRole.ADMIN]
    order = ParsedCommand(name, is_admin, roles=frozenset(rights))
    refused = ParsedCommand(name, is_admin, refusal=f"Only an admin may use /{name} here.", roles=frozenset(rights))
    if name in chat_commands():
        return order if role in ENOUGH[chat_commands()[name].required_role] else refused
    if (one := host_commands().get(name)) is not None:
        told = MENTION_REQUIRED.format(name=name) if role in ENOUGH[one.required_role] else refusal_text(one)
        return ParsedCommand(name, is_admin, refusal=told, roles=frozenset(rights))
    if AGENT_COMMANDS[name].disposition is Disposition.DISCARDED:
        return Discard(f"/{name} is no command for a chat")
    return PassThrough() if is_admin else refused


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", [*AGENT_COMMANDS, *chat_commands(), *host_commands()])
def test_every_listed_command_is_classified_as_listed_for_every_role(name: str, role: str) -> None:
    for text in (f"/{name}", f" /{name.upper()}@the_bot "):
        assert classify_command(text, is_admin=role in ENOUGH[RequiredRole.ADMIN], roles=ROLES[role]) == _expected(
            name, role
        )


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize("name", [*AGENT_COMMANDS, *chat_commands(), *host_commands()])
def test_an_agent_command_addressed_to_another_bot_is_discarded_and_a_host_command_passes_as_text(
    name: str,
) -> None:
    """In a group, without a mention of this bot."""
    expected = Discard(f"/{name} is for another bot") if name in AGENT_COMMANDS else PassThrough()
    for is_admin in (True, False):
        assert classify_command(f"/{name}@another_bot", is_admin=is_admin, is_addressed=False) == expected
    assert classify_command(f"/{name}", is_admin=False, is_addressed=False) == _expected(name, "none")


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("text", ["/unknown", "/stop it, please", "/costs", "a /pause would be nice", "//pause"])
def test_everything_else_is_an_ordinary_message(text: str, role: str) -> None:
    assert classify_command(text, is_admin=role in ENOUGH[RequiredRole.ADMIN], roles=ROLES[role]) == PassThrough()


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize("name", [*AGENT_COMMANDS, *chat_commands(), *host_commands()])
def test_host_commands_are_host_requests_only_where_the_bot_is_addressed(name: str) -> None:
    is_the_hosts = name in host_commands()
    assert typed(command_event(name)) is is_the_hosts
    assert typed(command_event(name, is_group=True, mentions_bot=True)) is is_the_hosts
    assert not typed(command_event(name, is_group=True))
    assert not typed(command_event(name, kind=EventKind.EDIT))


def typed(event: InboundEvent) -> bool:
    return parse_host_command(event) is not None


def command_event(
    name: str, *, is_group: bool = False, mentions_bot: bool = False, kind: EventKind = EventKind.MESSAGE
) -> InboundEvent:
    return InboundEvent(
        platform_id="c1",
        platform_message_id="m1",
        sender=Sender(handle="u1", name="Ann"),
        text=f"/{name}",
        sent_at=datetime(2026, 1, 1, tzinfo=UTC),
        is_group=is_group,
        mentions_bot=mentions_bot,
        kind=kind,
    )


@pytest.mark.behaviour("AC-06")
def test_the_page_about_commands_lists_every_command() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, foreign in AGENT_COMMANDS.items():
        what = "vanishes" if foreign.disposition is Disposition.DISCARDED else "for admins"
        assert f"| `/{name}` | {what} | {foreign.description} |" in page
    for command in chat_commands().values():
        assert f"| `/{command.name}` |" in page
    for one in host_commands().values():
        whom = {
            RequiredRole.ANYONE: "everybody",
            RequiredRole.ANY_ROLE: "people with a role",
            RequiredRole.ADMIN: "admins",
            RequiredRole.OWNER: "owners",
        }
        assert f"| `/{one.name}` | {whom[one.required_role]} | {one.help}" in page
