"""Handles host commands typed in a chat."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import datetime, tzinfo

from nanohost.channel_api import EventKind, InboundEvent
from nanohost.chat_commands.host_command import HostCommand, HostCommandInvocation, is_permitted, refusal_text
from nanohost.chat_commands.registry import host_commands
from nanohost.db import roles
from nanohost.db.database import Queries, ReportReader
from nanohost.db.events import StoredEvent
from nanohost.errors import UsageError
from nanohost.routing.host_request import HostRequest
from nanohost.text.phrases import capitalize_first
from nanohost.text.translation import _, translate, translate_error

_COMMAND_NAME = re.compile(r"/([a-z][a-z0-9_-]*)(?:@\w+)?(?=\s|$)", re.IGNORECASE)
"""A command's name, with the bot's name after it if the chat has several bots."""
_LEADING_MENTION = re.compile(r"@\S+\s+(?=/)")
_MENTION = re.compile(r"@\S+")
"""Not every channel removes the mention of the bot, and none does at the end of a text."""
MAX_ARGUMENT_CHARS = 2_000
"""Characters of a command's arguments."""


class CommandHandler:
    """Handles host commands as a RequestHandler. `channels` and `channel_problem`: see HostCommandInvocation."""

    def __init__(self, *, channels: Collection[str] = (), channel_problem: Callable[[str], str] = lambda _: "") -> None:
        self._channels = channels
        self._channel_problem = channel_problem

    async def can_handle(self, db: Queries, stored: StoredEvent) -> bool:
        return parse_host_command(stored.event) is not None

    async def prefetch(self, reports: ReportReader, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        found = parse_host_command(stored.event)
        if found is None or found[0].prefetch is None:
            return None
        grants = await roles.list_for_user(reports, stored.user_id)
        return (
            await found[0].run_prefetch(reports, now, zone)
            if is_permitted(found[0].required_role, [one.role for one in grants])
            else None
        )

    async def handle(self, request: HostRequest) -> bool:
        """Runs the command and replies. Returns False if the sender has no role and may not run it."""
        found = parse_host_command(request.stored.event)
        assert found is not None, "it is wanted"
        command, arguments_text = found
        actor = request.actor
        if not actor.has_role(command.required_role) and not request.grants:
            return False
        invocation = HostCommandInvocation(
            tx=request.tx,
            actor=actor,
            now=request.now,
            zone=request.zone,
            channels=self._channels,
            channel_problem=self._channel_problem,
            prefetched=request.prefetched,
        )
        await request.reply(await _run_command(command, invocation, arguments_text))
        return True


async def _run_command(command: HostCommand, invocation: HostCommandInvocation, arguments_text: str) -> str:
    if not invocation.actor.has_role(command.required_role):
        return refusal_text(command)
    if command.is_direct_only and not invocation.actor.is_direct:
        return _("/{name} is for a direct message to me: others read this here.", name=command.name)
    if len(arguments_text) > MAX_ARGUMENT_CHARS:
        return _(
            "/{name} takes {most} characters at most, not {count}.",
            name=command.name,
            most=f"{MAX_ARGUMENT_CHARS:,}",
            count=f"{len(arguments_text):,}",
        )
    try:
        return await command.execute(invocation, command.parse_arguments(arguments_text))
    except UsageError as error:
        said = capitalize_first(f"{translate_error(error)}.")
        if not error.hint:
            return said
        hint = translate(error.hint)
        # In a chat only our commands can be typed.
        label = _("Try: {command}", command=hint) if hint.startswith("/") else _("Hint: {hint}", hint=hint)
        return f"{said}\n{label}"


def parse_host_command(event: InboundEvent) -> tuple[HostCommand, str] | None:
    """Returns the command and the text of its arguments; None unless it was typed to the bot, and not by an edit."""
    if event.kind is not EventKind.MESSAGE or not (event.mentions_bot or not event.is_group):
        return None
    text = event.text.strip()
    before = _LEADING_MENTION.match(text) if event.is_group else None
    match = _COMMAND_NAME.match(text, before.end() if before else 0)
    command = host_commands().get(match[1].lower()) if match else None
    if command is None or match is None:
        return None
    words = text[match.end() :].strip()
    is_mention = event.is_group and not command.arguments.model_fields and _MENTION.fullmatch(words) is not None
    return command, "" if is_mention else words
