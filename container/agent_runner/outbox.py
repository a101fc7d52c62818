"""Writes the messages and requests of one attempt of a turn. Their ids are the same when the turn is run again.

A tool's row is committed at once; the messages of the answer are committed with the end of the turn.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path

from agent_runner import own_files
from agent_runner.destinations import (
    Address,
    AddressBook,
    ReplyContext,
    UnreachableTarget,
    resolve_address,
    resolve_bare_address,
)
from agent_runner.mailbox import Mailbox, SentMessage
from agent_runner.markup import strip_control_chars
from agent_runner.questions import AnswerOutcome, PendingQuestions, parse_answer
from agent_runner.reply import Block
from nanohost_protocol.errors import FileLocked, FileNotReady
from nanohost_protocol.ids import out_id, task_id
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.payloads import (
    ChatOut,
    EditOut,
    FileOut,
    OutPayload,
    QuestionOut,
    ReactionOut,
    SystemOut,
    TaskOut,
    encode,
)
from nanohost_protocol.rows import MessageIn, NewMessageOut, OutKind
from nanohost_protocol.sequence import MAX_SEQ
from nanohost_protocol.typed_times import parse_future_moment

TMP_DIR = Path("/tmp")  # noqa: S108 - where agents create files to send
MAX_TEXT_CHARS = 300_000
"""Characters of one message. Even if each is escaped in the longest way, its row stays below MAX_CONTENT_BYTES."""

Now = Callable[[], datetime]


class SendError(Exception):
    """A message of the agent cannot be sent; the text tells the agent why."""


class Outbox:
    """The output of one attempt of one turn. `add_messages` adds the messages that it answers."""

    def __init__(
        self,
        *,
        session: str,
        turn_id: str,
        mailbox: Mailbox,
        layout: SessionLayout,
        book: AddressBook,
        zone: tzinfo,
        now: Now,
        questions: PendingQuestions,
    ) -> None:
        """`zone`: the time zone of times that the agent writes."""
        self._session = session
        self._turn_id = turn_id
        self._mailbox = mailbox
        self._layout = layout
        self._now = now
        self._occurrences: Counter[tuple[str, str, str]] = Counter()
        self._messages: list[MessageIn] = []
        self._answers: list[MessageIn] = []
        self._questions = questions
        self._is_closed = False
        self.zone = zone
        self.address_book = book
        self.sent_ids: set[str] = set()
        """Ids of rows that this turn has committed, in earlier attempts too."""

    def reset_occurrences(self) -> None:
        """Resets the counters of equal messages, as the prompt is repeated: an equal message is the earlier one."""
        self._occurrences.clear()

    def close(self) -> None:
        """Refuses all further output, also of running tool calls, because the turn is over."""
        self._is_closed = True

    def add_messages(self, messages: tuple[MessageIn, ...]) -> None:
        """Adds messages that are being answered."""
        self._messages += messages

    def add_answers(self, messages: Sequence[MessageIn]) -> None:
        """Adds answers to questions of the turn: they can be replied to, but are not the messages being answered."""
        self._answers += messages

    def reply_context(self, answering: Sequence[MessageIn] = ()) -> ReplyContext:
        """Returns the reply context of these messages of the turn, or else of all of them."""
        return ReplyContext(answering or self._messages, turn_messages=[*self._answers, *self._messages])

    def compose_block(self, block: Block, reply_context: ReplyContext) -> NewMessageOut | UnreachableTarget:
        """Returns the row for a block of the answer, or why it cannot be sent."""
        where = resolve_address(block.to, block.reply_to_seq, book=self.address_book, reply_context=reply_context)
        return where if isinstance(where, UnreachableTarget) else self._compose(block.text, where)

    def compose_bare_text(self, text: str, reply_context: ReplyContext) -> NewMessageOut | UnreachableTarget:
        """Returns the row for text outside of blocks, or why it cannot be sent."""
        where = resolve_bare_address(book=self.address_book, reply_context=reply_context)
        return where if isinstance(where, UnreachableTarget) else self._compose(text, where)

    async def send_message(
        self, text: str, *, to: str | None = None, re: int | None = None, at: str | None = None
    ) -> SentMessage:
        """Sends text now, or at the time `at`. Raises SendError."""
        deliver_after = self.parse_moment(at) if at else None
        row = self._row(OutKind.CHAT, ChatOut(text=_truncate(text)), self._address(to, re))
        return await self._commit(replace(row, deliver_after=deliver_after))

    async def schedule_message(self, text: str, cron: str, *, to: str | None = None, at: str | None = None) -> str:
        """Has text sent at each time of a cron expression. Returns the task's id. Raises SendError."""
        deliver_after = self.parse_moment(at) if at else None
        row = self._row(OutKind.CHAT, ChatOut(text=_truncate(text)), self._address(to, None))
        return await self._request(replace(row, deliver_after=deliver_after, recurrence=strip_control_chars(cron)))

    async def schedule_task(self, task: TaskOut) -> str:
        """Creates a task that the host runs when it is due; its answers go where this turn's do. Returns its id."""
        row = self._row(OutKind.TASK, replace(task, prompt=_truncate(task.prompt)), self._address(None, None))
        return await self._request(row)

    async def request_action(self, action: str, arguments: Mapping[str, object]) -> None:
        """Requests an action of the host. The outcome arrives as a message, if the agent needs to know it."""
        payload = SystemOut(action=action, arguments=json.dumps(arguments, sort_keys=True))
        await self._request(self._row(OutKind.SYSTEM, payload, self._address(None, None)))

    async def read_meta(self, key: str) -> str | None:
        """Returns the host's current meta value of this key."""
        return (await self._mailbox.meta()).get(key)

    def parse_moment(self, text: str, *, timezone: str | None = None) -> datetime:
        """Parses a future time of the agent, in `timezone` or else in the session's zone. Raises SendError."""
        try:
            return parse_future_moment(text, zone=self.resolve_zone(timezone), now=self._now())
        except ValueError as error:
            raise SendError(f"{error}.") from None

    def resolve_zone(self, timezone: str | None) -> tzinfo:
        """Returns the zone of this name, else the session's. Raises SendError."""
        return _load_zone(timezone) or self.zone

    async def ask_question(
        self, text: str, options: tuple[str, ...], *, to: str | None = None, re: int | None = None
    ) -> SentMessage:
        """Sends a question now, with choices or without; the answer arrives as a message. Raises SendError."""
        return await self._send(OutKind.QUESTION, QuestionOut(text=_truncate(text), options=options), to, re)

    async def wait_for_answer(self, question: SentMessage, wait_s: float) -> AnswerOutcome:
        """Waits for the answer to a question. In a retried turn it may have arrived already."""
        taken = None
        if not question.is_new:
            with suppress(FileNotReady, FileLocked):
                taken = await self._mailbox.find_claimed_answer(question)
        return await self._questions.wait(question.id, wait_s) if taken is None else parse_answer(taken)

    async def edit_message(self, seq: int, text: str) -> SentMessage:
        """Changes the text of one of the agent's messages; the host knows where it is. Raises SendError."""
        if not 0 < seq <= MAX_SEQ or seq % 2 == 0:
            raise SendError(f"Message {seq} is not one of yours.")
        return await self._send(OutKind.EDIT, EditOut(message=seq, text=_truncate(text)), None, None)

    async def react(self, seq: int, emoji: str) -> SentMessage:
        """Adds an emoji to a message of this conversation; the host knows where it is. Raises SendError."""
        is_ours = seq % 2 == 1
        if not 0 < seq <= MAX_SEQ or not (is_ours or _has_platform_id(await self._mailbox.find_inbound(seq))):
            raise SendError(f"There is no message {seq} to react to.")
        return await self._send(
            OutKind.REACTION, ReactionOut(message=seq, emoji=strip_control_chars(emoji)), None, None
        )

    async def send_path(
        self, path: str, *, caption: str = "", to: str | None = None, re: int | None = None
    ) -> SentMessage:
        """Sends a file of the agent's folder or of /tmp now. Raises SendError."""
        roots = (self._layout.agent_dir, TMP_DIR)
        read = partial(own_files.read_file, path, roots=roots)
        return await self._send_file(Path(path).name, read, caption, self._address(to, re))

    async def send_file(self, name: str, data: bytes, *, caption: str = "", re: int | None = None) -> SentMessage:
        """Sends data as a file with this bare name now. Raises SendError."""
        return await self._send_file(name, lambda: data, caption, self._address(None, re))

    async def _send_file(self, name: str, read: Callable[[], bytes], caption: str, where: Address) -> SentMessage:
        if "/" in name or name in {"", ".", ".."}:
            raise SendError(f"{name!r} is not a bare file name.")
        data, problem = await asyncio.to_thread(_read_file, read)
        row = self._row(OutKind.FILE, FileOut(name=name, caption=_truncate(caption)), where)
        if row.id not in self.sent_ids:
            if problem is not None:
                self._undo_occurrence(row)
                raise problem
            self._require_open()
            # The file is on disk before the row that names it, so the host never finds one without the other.
            await asyncio.to_thread(_write_file, self._layout.out_dir / "outbox" / row.id, name, data)
        return await self._commit(row)

    async def _request(self, row: NewMessageOut) -> str:
        """Commits a request; returns the id of the task, if it creates one."""
        await self._commit(row)
        return task_id(session=self._session, request=row.id)

    async def _send(self, kind: OutKind, payload: OutPayload, to: str | None, re: int | None) -> SentMessage:
        return await self._commit(self._row(kind, payload, self._address(to, re)))

    async def _commit(self, row: NewMessageOut) -> SentMessage:
        """Commits a row of a tool. Nothing is committed after the turn is over. Raises SendError."""
        self._require_open()
        sent = await self._mailbox.send(row, self._now())
        self.sent_ids.add(sent.id)
        return sent

    def _require_open(self) -> None:
        """Raises SendError if the turn is over."""
        if self._is_closed:
            raise SendError("The turn is over; nothing was done.")

    def _address(self, to: str | None, re: int | None) -> Address:
        where = resolve_address(to, re, book=self.address_book, reply_context=self.reply_context())
        if isinstance(where, UnreachableTarget):
            raise SendError(where.problem)
        return where

    def _compose(self, text: str, where: Address) -> NewMessageOut:
        """Returns the row of a message of the answer, which is committed with the turn's end."""
        return self._row(OutKind.CHAT, ChatOut(text=_truncate(text)), where)

    def _row(self, kind: OutKind, payload: OutPayload, where: Address) -> NewMessageOut:
        content = encode(payload)
        key = (str(kind), where.destination or "", content)
        occurrence = self._occurrences[key]
        self._occurrences[key] += 1
        return NewMessageOut(
            id=out_id(turn=self._turn_id, kind=key[0], destination=key[1], content=content, occurrence=occurrence),
            turn_id=self._turn_id,
            kind=kind,
            content=content,
            in_reply_to=where.in_reply_to,
            destination=where.destination,
        )

    def _undo_occurrence(self, row: NewMessageOut) -> None:
        """Undoes the count of a row that was not sent, so that the next equal one gets the same id."""
        self._occurrences[str(row.kind), row.destination or "", row.content] -= 1


def _load_zone(name: str | None) -> tzinfo | None:
    """Returns a time zone by name; None if it is unknown, which the host then reports."""
    if name is None:
        return None
    from zoneinfo import ZoneInfo  # seldom needed, and slows the start

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise SendError(f"There is no time zone {name[:60]!r}: write for example Europe/Berlin.") from None


def _has_platform_id(message: MessageIn | None) -> bool:
    return message is not None and message.origin is not None and message.origin.platform_message_id is not None


def _read_file(read: Callable[[], bytes]) -> tuple[bytes, SendError | None]:
    """Returns the data, or why it could not be read."""
    try:
        return read(), None
    except own_files.UnreadableFile as error:
        return b"", SendError(str(error))


def _truncate(text: str) -> str:
    """Cuts text to the length of a row, with a note of what was cut, as the host does with people's messages."""
    text = strip_control_chars(text)
    more = len(text) - MAX_TEXT_CHARS
    return text if more <= 0 else f"{text[:MAX_TEXT_CHARS]}\n[cut: {more} more characters]"


def _write_file(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
