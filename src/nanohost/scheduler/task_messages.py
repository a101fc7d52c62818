"""Builds the messages of runs: the message for the mailbox, and the entries for the ledger. Pure.

Ledger numbers: the agent's rows are above zero, the container manager's notices below it (see containers/notices.py),
and those of tasks count up from -2**63, two per run: a later message has the higher number.
"""

from __future__ import annotations

from datetime import datetime

from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.db.tasks import Task, TaskRun
from nanohost.model import TaskId
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import CardOut, ChatOut, TaskIn, decode_out, encode
from nanohost_protocol.rows import InKind, NewMessageIn, OutKind
from nanohost_protocol.times import to_text

MIN_SEQ = -(2**63)
MAX_NAME_CHARS = 60
"""Characters of a prompt that is used as the name of its task."""


def run_id(task: TaskId, due: datetime) -> str:
    """Returns the id of the message or the delivery of one run."""
    return derive_id("k", task, to_text(due))


def message_seq(run: TaskRun) -> int:
    """Returns the ledger number of a message that a task sends itself."""
    return MIN_SEQ + 2 * run.id


def pause_notice_seq(run: TaskRun) -> int:
    """Returns the ledger number of the notice that a task was paused after this run."""
    return message_seq(run) + 1


def build_prompt_message(task: Task, run: TaskRun) -> NewMessageIn:
    """Returns the prompt for the agent, with the due time as its time."""
    return NewMessageIn(
        id=run.message_id,
        kind=InKind.TASK,
        timestamp=run.due,
        content=encode(TaskIn(prompt=task.content)),
        origin=task.origin,
    )


def build_delivery(task: Task, run: TaskRun, now: datetime) -> Delivery:
    """Returns the delivery of a task of kind `message`."""
    assert task.out_kind is not None
    return _new_delivery(task, message_seq(run), run.message_id, task.out_kind, task.content, now)


def build_pause_notice(task: Task, run: TaskRun, text: str, now: datetime) -> Delivery:
    return _new_delivery(
        task, pause_notice_seq(run), derive_id("n", run.message_id), OutKind.CHAT, encode(ChatOut(text=text)), now
    )


def display_name(task: Task) -> str:
    """Returns a short text by which a person recognizes the task."""
    words = " ".join(_readable_content(task).split())
    return words if len(words) <= MAX_NAME_CHARS else words[: MAX_NAME_CHARS - 1] + "…"


def _readable_content(task: Task) -> str:
    """Returns the prompt, or the text that is sent, without the JSON around it."""
    if task.out_kind is None:
        return task.content
    try:
        match decode_out(task.out_kind, task.content):
            case ChatOut(text=text):
                return text
            case CardOut(title=title):
                return title
    except PayloadError:  # written by a release with other kinds
        pass
    return task.content


def _new_delivery(task: Task, seq: int, out_id: str, kind: str, content: str, now: datetime) -> Delivery:
    origin = task.origin
    assert origin is not None
    return Delivery(
        queue=DeliveryQueueKey(task.session_id, origin.channel_type, origin.instance, origin.platform_id),
        seq=seq,
        out_id=out_id,
        kind=kind,
        thread_id=origin.thread_id,
        reply_to=None,
        content=content,
        status=DeliveryStatus.PENDING,
        created_at=now,
    )
