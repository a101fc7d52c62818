"""Defines a resource: rows that operators list and change. One definition makes its commands, their help and reference.

Promises: a change, the approvals that it makes obsolete, and its audit entry are one transaction; the error for a
missing row says what to type.
Never: a column that no field describes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from nanohost.approvals.obsolete import withdraw_obsolete
from nanohost.arguments import CommandArguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.tables import Json, render_result, to_json
from nanohost.db import audit
from nanohost.db.audit import AuditOutcome
from nanohost.errors import UsageError

Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""An integer that fits into an SQLite column."""
NO_LIMIT = -1
"""The LIMIT in SQL for no limit."""


class Row(BaseModel):
    """One row as it is shown. A field's description is its meaning. A field with a default is shown if it is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    AUDIT_KEY_FIELDS: ClassVar[tuple[str, ...]] = ("id",)
    """The fields that identify the row in the audit log."""

    def audit_key(self) -> str:
        return " ".join(str(to_json(getattr(self, name))) for name in self.AUDIT_KEY_FIELDS)

    def audit_details(self) -> Mapping[str, str | None]:
        """Returns further details for the audit log, besides the typed arguments."""
        return {}

    def as_json(self) -> dict[str, Json]:
        values = {name: to_json(getattr(self, name)) for name in type(self).model_fields}
        return {
            name: value
            for name, value in values.items()
            if value is not None or type(self).model_fields[name].is_required()
        }


class ListArguments(CommandArguments):
    """The arguments of every list. Subclasses add filters as fields."""

    limit: Number | None = Field(None, ge=1, description="at most so many (default: all)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """An operation on a resource. `run` gets the context, the database and the arguments. `example`: the text after the
    words. `result`: the type of the result (None: the resource's row); `render` turns it into text. `confirm`: the
    question to confirm.
    """

    name: str
    help: str
    example: str
    arguments: type[CommandArguments]
    run: Callable[..., Awaitable[Any]]
    result: type[Row] | None = None
    render: Callable[[Json], str] = render_result
    positional: tuple[str, ...] = ()
    confirm: str = ""
    can_create_install: bool = False

    async def execute(self, resource: Resource, context: CommandContext, arguments: CommandArguments) -> Json:
        """Runs the operation. Raises UsageError and the errors of `run`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVerb(Verb):
    """Lists rows. `run` gets the database's ReportReader and returns rows."""

    name: str = "list"
    arguments: type[CommandArguments] = ListArguments

    async def execute(self, resource: Resource, context: CommandContext, arguments: CommandArguments) -> Json:
        rows: Sequence[Row] = await self.run(context, context.store.reports, arguments)
        limit = arguments.limit if isinstance(arguments, ListArguments) else None
        return [row.as_json() for row in rows[:limit]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetVerb(Verb):
    """Shows one row. `run` gets the database's ReportReader and returns the row of a key, or None."""

    name: str = "get"

    async def execute(self, resource: Resource, context: CommandContext, arguments: CommandArguments) -> Json:
        row: Row | None = await self.run(context, context.store.reports, arguments)
        if row is None:
            raise resource.not_found_error(self, arguments)
        return row.as_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeVerb(Verb):
    """Changes a row. `run` works in the given transaction and returns the row that it created, changed or deleted, or
    None if there is none of that key. `after_commit` is called after the commit and returns the row to show.
    """

    after_commit: Callable[[CommandContext, Any], Awaitable[Row]] | None = None

    async def execute(self, resource: Resource, context: CommandContext, arguments: CommandArguments) -> Json:
        if self.name == "update" and arguments.model_fields_set <= set(self.positional):
            raise UsageError("nothing is to be changed", hint=f"nanohost {resource.name} update --help")
        async with context.store.transaction() as tx:
            row: Row | None = await self.run(context, tx, arguments)
            if row is None:
                raise resource.not_found_error(self, arguments)
            await audit.record(
                tx,
                actor=context.who,
                action=f"{resource.name}.{self.name}",
                target=row.audit_key(),
                origin=audit.LOCAL,
                outcome=AuditOutcome.DONE,
                now=context.clock.now(),
                details={**row.audit_details(), **arguments.model_dump(mode="json", exclude_none=True)},
            )
            zone = context.settings.zone
            await withdraw_obsolete(tx, now=context.clock.now(), zone=zone)
        shown = row if self.after_commit is None else await self.after_commit(context, row)
        return shown.as_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource. `singular`: the word for one row. `description`: what the rows are, in a sentence."""

    name: str
    singular: str
    description: str
    row: type[Row]
    verbs: tuple[Verb, ...]

    def commands(self) -> tuple[Command, ...]:
        return tuple(
            Command(
                words=f"{self.name} {verb.name}",
                help=verb.help,
                example=f"nanohost {self.name} {verb.name} {verb.example}".rstrip(),
                arguments=verb.arguments,
                run=partial(verb.execute, self),
                render=verb.render,
                positional=verb.positional,
                can_create_install=verb.can_create_install,
                confirm=verb.confirm,
            )
            for verb in self.verbs
        )

    def result_type(self, verb: Verb) -> type[Row]:
        """Returns the type of the verb's result."""
        return verb.result or self.row

    def not_found_error(self, verb: Verb, arguments: CommandArguments) -> UsageError:
        """Returns the error for a key without a row."""
        key = " ".join(str(to_json(getattr(arguments, name))) for name in verb.positional)
        return UsageError(f"there is no {self.singular} {key[:100]}", hint=f"nanohost {self.name} list")
