"""Rules: decisions for next time, and until when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from nanohost.actions.registry import extensions_loaded, registered_actions
from nanohost.approvals.kinds import chat, sender
from nanohost.arguments import CommandArguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import NO_LIMIT, ChangeVerb, GetVerb, ListArguments, ListVerb, Number, Resource, Row
from nanohost.commands.roles import validate_user
from nanohost.commands.setup import resolve_group
from nanohost.db import agent_groups, rules
from nanohost.db.database import Queries, ReportReader, Transaction
from nanohost.db.rules import Rule, RuleEffect
from nanohost.errors import UsageError
from nanohost.text.phrases import suggest_name
from nanohost_protocol.actions import ActionName
from nanohost_protocol.typed_times import parse_moment, past_moment_error

CHAT_PATTERN = re.compile(r"[^:]+:[^:]+:.+")
"""TYPE:INSTANCE:CHAT; a platform's own id may have colons."""
KIND_HELP = (
    f"what is asked for: an action such as {ActionName.TASKS_CREATE}, sender (whoever talks to an agent),"
    " chat (that an agent is in)"
)
ALLOW_HINTS = {
    sender.KIND_NAME: "nanohost roles create USER member --group FOLDER",
    chat.KIND_NAME: "nanohost wirings create --help",
}
"""Kinds for which rules can only deny, with the command that allows instead."""


class RuleRow(Row):
    id: int = Field(description="its number")
    kind: str = Field(description=KIND_HELP)
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

    def audit_details(self) -> Mapping[str, str | None]:
        return {"kind": self.kind, "subject": self.subject, "group": self.group}


class ListArgs(ListArguments):
    ended: bool = Field(False, description="show those that have ended, too")


class RuleArgs(CommandArguments):
    id: Number = Field(description="the rule's number")


class CreateArgs(CommandArguments):
    kind: str = Field(description=KIND_HELP)
    effect: RuleEffect = Field(description="allow or deny; a sender or a chat can only be denied")
    group: str | None = Field(None, description="only for this agent group (default: all)")
    subject: str | None = Field(
        None, description="only about this: a user, TYPE:INSTANCE:CHAT, or what an action is about (default: any)"
    )
    until: str | None = Field(None, description="2026-03-01T09:00, or 30d from now (default: until it is deleted)")


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[RuleRow]:
    found = await rules.list_all(db, limit=arguments.limit or NO_LIMIT, include_ended=arguments.ended)
    return [await _make_row(db, rule) for rule in found]


async def _get(context: CommandContext, db: Queries, arguments: RuleArgs) -> RuleRow | None:
    rule = await rules.find(db, arguments.id)
    return None if rule is None else await _make_row(db, rule)


async def _create(context: CommandContext, tx: Transaction, arguments: CreateArgs) -> RuleRow:
    if context.host is None:
        async with extensions_loaded(context.home.actions):
            _validate_rule(arguments)
    else:
        _validate_rule(arguments)
    group = None if arguments.group is None else await resolve_group(tx, arguments.group)
    rule = await rules.add(
        tx,
        kind=arguments.kind,
        effect=arguments.effect,
        agent_group=None if group is None else group.id,
        subject=arguments.subject,
        created_by=context.who,
        expires_at=None if arguments.until is None else _parse_expiry(arguments.until, context),
        now=context.clock.now(),
    )
    return await _make_row(tx, rule)


async def _delete(context: CommandContext, tx: Transaction, arguments: RuleArgs) -> RuleRow | None:
    rule = await rules.find(tx, arguments.id)
    if rule is None:
        return None
    if not await rules.end(tx, rule.id, ended_by=context.who, now=context.clock.now()):
        raise UsageError(f"rule {rule.id} has ended already", hint="nanohost rules list --ended")
    ended = await rules.find(tx, rule.id)
    assert ended is not None, "it was just there"
    return await _make_row(tx, ended)


def _validate_rule(arguments: CreateArgs) -> None:
    """Raises UsageError for a rule that could never apply."""
    known = {*ALLOW_HINTS, *registered_actions()}
    if arguments.kind not in known:
        raise UsageError(f"nobody is ever asked for {arguments.kind[:80]!r}", hint=suggest_name(arguments.kind, known))
    if arguments.kind in ALLOW_HINTS and arguments.effect is RuleEffect.ALLOW:
        raise UsageError(f"a {arguments.kind} is let in without a rule", hint=ALLOW_HINTS[arguments.kind])
    if arguments.kind == chat.KIND_NAME and arguments.group is not None:
        raise UsageError("a chat is refused to all agents", hint="leave out --group")
    if arguments.subject is not None:
        _validate_subject(arguments.kind, arguments.subject)


def _validate_subject(kind: str, subject: str) -> None:
    """Raises UsageError if the subject is invalid for this kind."""
    if kind == sender.KIND_NAME:
        validate_user(subject)
    elif kind == chat.KIND_NAME and not CHAT_PATTERN.fullmatch(subject):
        raise UsageError(f"{subject[:80]!r} is no chat", hint="TYPE:INSTANCE:CHAT, as in telegram:default:-100123")


def _parse_expiry(text: str, context: CommandContext) -> datetime:
    now, zone = context.clock.now(), context.settings.zone
    try:
        end = parse_moment(text, zone=zone, now=now)
    except ValueError as error:
        raise UsageError(str(error), hint="--until 2026-03-01T09:00, or --until 30d") from None
    if end <= now:
        raise UsageError(past_moment_error(repr(text[:60]), end, zone=zone, now=now), hint="--until 30d")
    return end


async def _make_row(db: Queries, rule: Rule) -> RuleRow:
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
    singular="rule",
    description="remembered decisions: allow or deny, for whom, until when; nobody is asked again",
    row=RuleRow,
    verbs=(
        ListVerb(help="list what is decided for next time", example="--ended", arguments=ListArgs, run=_list),
        GetVerb(help="show one rule", example="4", arguments=RuleArgs, run=_get, positional=("id",)),
        ChangeVerb(
            name="create",
            help="decide something for next time",
            example=f"{ActionName.TASKS_CREATE} allow --group main --until 30d",
            arguments=CreateArgs,
            run=_create,
            positional=("kind", "effect"),
        ),
        ChangeVerb(
            name="delete",
            help="end a rule: somebody is asked again; it stays on record",
            example="4",
            arguments=RuleArgs,
            run=_delete,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()
