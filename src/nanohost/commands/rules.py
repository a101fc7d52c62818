"""Rules: what somebody decided for next time, and until when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from nanohost.actions.registry import registered, with_files
from nanohost.approvals.kinds import chat, sender
from nanohost.arguments import Arguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import NO_LIMIT, Change, ListArguments, Listing, Look, Number, Resource, Row
from nanohost.commands.roles import checked_user
from nanohost.commands.setup import known_group
from nanohost.errors import UsageError
from nanohost.phrases import nearest
from nanohost.store import agent_groups, rules
from nanohost.store.database import Queries, Reports, Transaction
from nanohost.store.rules import Rule, RuleEffect
from nanohost_protocol.actions import ActionName
from nanohost_protocol.moments import in_the_past, moment

CHAT = re.compile(r"[^:]+:[^:]+:.+")
"""TYPE:INSTANCE:CHAT; a platform's own id may have colons."""
KIND = (
    f"what is asked for: an action such as {ActionName.TASKS_CREATE}, sender (whoever talks to an agent),"
    " chat (that an agent is in)"
)
LETS_IN = {sender.NAME: "nanohost members create USER --group FOLDER", chat.NAME: "nanohost wirings create --help"}
"""How each is said yes to; a rule about them can only be a no."""


class RuleRow(Row):
    id: int = Field(description="its number")
    kind: str = Field(description=KIND)
    effect: RuleEffect = Field(description="allow or deny")
    group: str | None = Field(description="the folder of the agent group it is for; empty: all")
    subject: str | None = Field(description="what it is about; empty: whatever that kind is about")
    created_by: str = Field(description="who decided it")
    created_at: datetime = Field(description="when")
    expires_at: datetime | None = Field(description="until when it decides; empty: until it is deleted")
    uses: int = Field(description="how often it has decided")
    last_used_at: datetime | None = Field(description="when it did last")
    ended_at: datetime | None = Field(description="when it ended; empty: it decides")
    ended_by: str | None = Field(description="who ended it")

    def concerns(self) -> Mapping[str, str | None]:
        return {"kind": self.kind, "subject": self.subject, "group": self.group}


class List(ListArguments):
    ended: bool = Field(False, description="show those that have ended, too")


class One(Arguments):
    id: Number = Field(description="the rule's number")


class Create(Arguments):
    kind: str = Field(description=KIND)
    effect: RuleEffect = Field(description="allow or deny; a sender or a chat can only be denied")
    group: str | None = Field(None, description="only for this agent group (default: all)")
    subject: str | None = Field(
        None, description="only about this: a user, TYPE:INSTANCE:CHAT, or what an action is about (default: any)"
    )
    until: str | None = Field(None, description="2026-03-01T09:00, or 30d from now (default: until it is deleted)")


async def _list(context: CommandContext, db: Reports, arguments: List) -> list[RuleRow]:
    found = await rules.every(db, limit=arguments.limit or NO_LIMIT, ended=arguments.ended)
    return [await _described(db, rule) for rule in found]


async def _get(context: CommandContext, db: Queries, arguments: One) -> RuleRow | None:
    rule = await rules.find(db, arguments.id)
    return None if rule is None else await _described(db, rule)


async def _create(context: CommandContext, tx: Transaction, arguments: Create) -> RuleRow:
    if context.live is None:
        async with with_files(context.home.actions):
            _check(arguments)
    else:
        _check(arguments)
    group = None if arguments.group is None else await known_group(tx, arguments.group)
    rule = await rules.add(
        tx,
        kind=arguments.kind,
        effect=arguments.effect,
        agent_group=None if group is None else group.id,
        subject=arguments.subject,
        created_by=context.who,
        expires_at=None if arguments.until is None else _until(arguments.until, context),
        now=context.clock.now(),
    )
    return await _described(tx, rule)


async def _delete(context: CommandContext, tx: Transaction, arguments: One) -> RuleRow | None:
    rule = await rules.find(tx, arguments.id)
    if rule is None:
        return None
    if not await rules.end(tx, rule.id, by=context.who, now=context.clock.now()):
        raise UsageError(f"rule {rule.id} has ended already", hint="nanohost rules list --ended")
    ended = await rules.find(tx, rule.id)
    assert ended is not None, "it was just there"
    return await _described(tx, ended)


def _check(arguments: Create) -> None:
    """Raises UsageError for a rule that would never decide anything."""
    known = {*LETS_IN, *registered()}
    if arguments.kind not in known:
        raise UsageError(f"nobody is ever asked for {arguments.kind[:80]!r}", hint=nearest(arguments.kind, known))
    if arguments.kind in LETS_IN and arguments.effect is RuleEffect.ALLOW:
        raise UsageError(f"a {arguments.kind} is let in without a rule", hint=LETS_IN[arguments.kind])
    if arguments.kind == chat.NAME and arguments.group is not None:
        raise UsageError("a chat is refused to all agents", hint="leave out --group")
    if arguments.subject is not None:
        _check_subject(arguments.kind, arguments.subject)


def _check_subject(kind: str, subject: str) -> None:
    """Whom or what a card would be about. Raises UsageError."""
    if kind == sender.NAME:
        checked_user(subject)
    elif kind == chat.NAME and not CHAT.fullmatch(subject):
        raise UsageError(f"{subject[:80]!r} is no chat", hint="TYPE:INSTANCE:CHAT, as in telegram:default:-100123")


def _until(text: str, context: CommandContext) -> datetime:
    now, zone = context.clock.now(), context.settings.zone
    try:
        end = moment(text, zone=zone, now=now)
    except ValueError as error:
        raise UsageError(str(error), hint="--until 2026-03-01T09:00, or --until 30d") from None
    if end <= now:
        raise UsageError(in_the_past(repr(text[:60]), end, zone=zone, now=now), hint="--until 30d")
    return end


async def _described(db: Queries, rule: Rule) -> RuleRow:
    group = rule.agent_group_id
    return RuleRow(
        id=rule.id,
        kind=rule.kind,
        effect=rule.effect,
        group=None if group is None else (await agent_groups.get(db, group)).folder,
        subject=rule.subject,
        created_by=rule.created_by,
        created_at=rule.created_at,
        expires_at=rule.expires_at,
        uses=rule.uses,
        last_used_at=rule.last_used_at,
        ended_at=rule.ended_at,
        ended_by=rule.ended_by,
    )


RESOURCE = Resource(
    name="rules",
    one="rule",
    about="what somebody decided for next time, so that nobody is asked: allow or deny, for whom, until when",
    row=RuleRow,
    verbs=(
        Listing(help="list what is decided for next time", example="--ended", arguments=List, run=_list),
        Look(help="show one rule", example="4", arguments=One, run=_get, positional=("id",)),
        Change(
            word="create",
            help="decide something for next time",
            example=f"{ActionName.TASKS_CREATE} allow --group main --until 30d",
            arguments=Create,
            run=_create,
            positional=("kind", "effect"),
        ),
        Change(
            word="delete",
            help="end a rule: somebody is asked again; it stays on record",
            example="4",
            arguments=One,
            run=_delete,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()
