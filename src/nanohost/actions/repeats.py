"""Messages that are to be sent again and again without a turn of the agent: an outbound row with a recurrence."""

from __future__ import annotations

from nanohost.actions.registry import Action, Arguments, Request
from nanohost.actions.tasks import BY_AGENT, check_within_a_year, due_time, new_id
from nanohost.delivery.addresses import address_book
from nanohost.delivery.requests import why_not_repeatable
from nanohost.errors import UsageError
from nanohost.store import sessions
from nanohost.store.database import Transaction
from nanohost.store.tasks import TaskKind
from nanohost.tasks import changes
from nanohost_protocol.actions import ActionName
from nanohost_protocol.moments import is_counted


class Repeated(Arguments):
    """`kind` and `content` of the row that is sent each time; `due` is when it is first sent, if not by `recurrence`,
    a cron expression in the session's zone."""

    kind: str
    content: str
    due: str | None = None
    recurrence: str


async def _repeat(tx: Transaction, request: Request, wanted: Repeated) -> None:
    # An agent can ask by this action's name too, past what a row with a recurrence is checked for.
    if (problem := why_not_repeatable(wanted.kind, wanted.content)) is not None:
        raise UsageError(problem)
    await _check_place(tx, request)
    task = await changes.create(
        tx,
        id=new_id(request),
        session=request.session,
        kind=TaskKind.MESSAGE,
        content=wanted.content,
        out_kind=wanted.kind,
        due=due_time(wanted.due, timezone=request.timezone, request=request),
        cron=wanted.recurrence,
        timezone=request.timezone,
        origin=request.origin,
        created_by=BY_AGENT,
        now=request.now,
        counted=is_counted(wanted.due),
    )
    check_within_a_year(task, request.now)


async def _check_place(tx: Transaction, request: Request) -> None:
    """It goes out each time without another look, so the session must be allowed to send there now: a request may have
    waited for a person. Raises UsageError."""
    if request.origin is None:
        return  # refused with its own words
    book = await address_book(tx, await sessions.get(tx, request.session))
    if not book.has(request.origin):
        raise UsageError("this conversation cannot send to that chat any more")


ACTIONS = (
    Action(name=ActionName.MESSAGES_REPEAT, title="Send a message again and again", arguments=Repeated, effect=_repeat),
)
