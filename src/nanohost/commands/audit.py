"""Audit: who did what, where, when, and the outcome. No command changes it."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nanohost.commands.context import CommandContext
from nanohost.commands.old_words import other_names_in_audit
from nanohost.commands.resource import ListArguments, ListVerb, Number, Resource, Row
from nanohost.commands.since import SINCE_HELP, parse_since
from nanohost.db import audit
from nanohost.db.audit import AuditEntry, AuditOutcome
from nanohost.db.database import ReportReader

DEFAULT_LIMIT = 100


class AuditRow(Row):
    id: int = Field(description="its number; later ones are higher")
    at: datetime = Field(description="when")
    who: str = Field(description="a user, agent:SESSION, local:NAME for somebody at the machine, or host")
    what: str = Field(description="the noun and what was done: roles.create, approval.approved …")
    about: str = Field(description="whom or what it concerned")
    origin: str = Field(description="the chat it came from, or local")
    outcome: AuditOutcome = Field(description="done, allowed, held, denied, refused or failed")
    details: dict[str, object] = Field(description="what was asked for, as far as it is no secret")


class ListArgs(ListArguments):
    limit: Number | None = Field(
        DEFAULT_LIMIT, ge=1, description=f"at most so many, the latest first (default: {DEFAULT_LIMIT})"
    )
    who: str | None = Field(None, description="only what this user did: CHANNEL:HANDLE, agent:SESSION, local:NAME")
    what: str | None = Field(None, description="only this: a noun such as roles, or all of it, such as roles.create")
    about: str | None = Field(
        None,
        description="only what concerned this: a user, an approval, an agent group, a chat as TYPE:INSTANCE:CHAT …",
    )
    since: str | None = Field(None, description=SINCE_HELP)


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[AuditRow]:
    found = await audit.latest(
        db,
        limit=arguments.limit or DEFAULT_LIMIT,
        actor=arguments.who,
        action=arguments.what,
        also=other_names_in_audit(arguments.what or ""),
        target=arguments.about,
        since=None if arguments.since is None else parse_since(arguments.since, context),
    )
    return [_to_row(one) for one in found]


def _to_row(entry: AuditEntry) -> AuditRow:
    return AuditRow(
        id=entry.id,
        at=entry.at,
        who=entry.actor,
        what=entry.action,
        about=entry.target,
        origin=entry.origin,
        outcome=entry.outcome,
        details=dict(entry.details),
    )


RESOURCE = Resource(
    name="audit",
    singular="entry",
    description="who did what, where, when, and the outcome; no command deletes it",
    row=AuditRow,
    verbs=(ListVerb(help="list who did what", example="--what roles --since 7d", arguments=ListArgs, run=_list),),
)
COMMANDS = RESOURCE.commands()
