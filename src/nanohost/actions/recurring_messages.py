"""Defines the action that sends a recurring message without a turn of the agent: an outbound row with a recurrence."""

from __future__ import annotations

from nanohost.actions.registry import Action, ActionRequest, Arguments
from nanohost.actions.tasks import AGENT_ACTOR, check_max_delay, derive_task_id, parse_due
from nanohost.db import sessions
from nanohost.db.database import Transaction
from nanohost.db.tasks import TaskKind
from nanohost.delivery.address_book import address_book
from nanohost.delivery.agent_requests import repeat_problem
from nanohost.errors import UsageError
from nanohost.scheduler import task_operations
from nanohost.text.translation import gettext_noop
from nanohost_protocol.actions import ActionName
from nanohost_protocol.typed_times import is_relative


class RepeatMessage(Arguments):
    """`kind` and `content`: of the row that is sent each time. `recurrence`: a cron expression in the session's zone.
    `due`: when it is first sent, if not by `recurrence`."""

    kind: str
    content: str
    due: str | None = None
    recurrence: str


async def _repeat_message(tx: Transaction, request: ActionRequest, arguments: RepeatMessage) -> None:
    # An agent can also request this action by name, which skips the checks of a row with a recurrence.
    if (problem := repeat_problem(arguments.kind, arguments.content)) is not None:
        raise UsageError(problem)
    await _check_destination(tx, request)
    task = await task_operations.create(
        tx,
        id=derive_task_id(request),
        session=request.session_id,
        kind=TaskKind.MESSAGE,
        content=arguments.content,
        out_kind=arguments.kind,
        due=parse_due(arguments.due, timezone=request.timezone, request=request),
        cron=arguments.recurrence,
        timezone=request.timezone,
        origin=request.origin,
        created_by=AGENT_ACTOR,
        now=request.now,
        is_relative=is_relative(arguments.due),
    )
    check_max_delay(task, request.now)


async def _check_destination(tx: Transaction, request: ActionRequest) -> None:
    """Raises UsageError if the session may not send there now.

    The message is sent each time without another check, and the request may have waited for an approval.
    """
    if request.origin is None:
        return  # the caller refuses it with its own reason
    book = await address_book(tx, await sessions.get(tx, request.session_id))
    if not book.contains(request.origin):
        raise UsageError("this conversation cannot send to that chat any more")


ACTIONS = (
    Action(
        name=ActionName.MESSAGES_REPEAT,
        title=gettext_noop("Send a message again and again"),
        arguments=RepeatMessage,
        effect=_repeat_message,
    ),
)
