"""The host's commands, typed in a chat."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import datetime, tzinfo

from nanohost.channel_api import EventKind, InboundEvent
from nanohost.chat_commands.host_command import HostAsked, HostCommand, is_for, refusal
from nanohost.chat_commands.registry import host_commands
from nanohost.errors import UsageError
from nanohost.phrases import sentence
from nanohost.reception.visit import Visit
from nanohost.store import roles
from nanohost.store.database import Queries, Reports
from nanohost.store.events import StoredEvent

_WORD = re.compile(r"/([a-z][a-z0-9_-]*)(?:@\w+)?(?=\s|$)", re.IGNORECASE)
"""A command's name, and the bot's after it where a chat has several."""
_BEFORE = re.compile(r"@\S+\s+(?=/)")
_MENTION = re.compile(r"@\S+")
"""Not every channel takes the bot's name away, and none where it stands at the end."""
LONGEST = 2_000
"""Characters of what a command is given."""


class Commands:
    """A counter of the reception. `channels` and `trouble_of`: see HostAsked."""

    def __init__(self, *, channels: Collection[str] = (), trouble_of: Callable[[str], str] = lambda _: "") -> None:
        self._channels = channels
        self._trouble_of = trouble_of

    async def wants(self, db: Queries, stored: StoredEvent) -> bool:
        return command_of(stored.event) is not None

    async def look(self, reports: Reports, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        found = command_of(stored.event)
        if found is None or found[0].look is None:
            return None
        grants = await roles.of_user(reports, stored.user)
        return await found[0].seen(reports, now, zone) if is_for(found[0].who, [one.role for one in grants]) else None

    async def serve(self, visit: Visit) -> bool:
        """Somebody with no role who is not allowed to is like one who wrote anything else: False."""
        found = command_of(visit.stored.event)
        assert found is not None, "it is wanted"
        command, words = found
        actor = visit.actor
        if not actor.may(command.who) and not visit.grants:
            return False
        asked = HostAsked(
            tx=visit.tx,
            actor=actor,
            now=visit.now,
            zone=visit.zone,
            channels=self._channels,
            trouble_of=self._trouble_of,
            seen=visit.seen,
        )
        await visit.say(await _answer(command, asked, words))
        return True


async def _answer(command: HostCommand, asked: HostAsked, words: str) -> str:
    if not asked.actor.may(command.who):
        return refusal(command)
    if command.private and not asked.actor.is_private:
        return f"/{command.name} is for a direct message to me: others read this here."
    if len(words) > LONGEST:
        return f"/{command.name} takes {LONGEST:,} characters at most, not {len(words):,}."
    try:
        return await command.carry_out(asked, command.typed(words))
    except UsageError as error:
        label = "Try" if error.hint.startswith("/") else "Hint"  # in a chat only our commands can be typed
        return sentence(f"{error}.") + (f"\n{label}: {error.hint}" if error.hint else "")


def command_of(event: InboundEvent) -> tuple[HostCommand, str] | None:
    """The command and what it is given, if the event is one: typed, not edited later, and to us."""
    if event.kind is not EventKind.MESSAGE or not (event.mentions_bot or not event.is_group):
        return None
    text = event.text.strip()
    before = _BEFORE.match(text) if event.is_group else None
    match = _WORD.match(text, before.end() if before else 0)
    command = host_commands().get(match[1].lower()) if match else None
    if command is None or match is None:
        return None
    words = text[match.end() :].strip()
    is_mention = event.is_group and not command.arguments.model_fields and _MENTION.fullmatch(words) is not None
    return command, "" if is_mention else words
