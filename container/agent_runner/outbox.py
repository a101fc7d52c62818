"""What one run of a turn sends and asks for: rows with ids that come out the same when the turn is run again.

A tool's row is committed at once; the messages of the answer wait for the turn's end and are committed with it.
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
from nanohost_protocol.moments import parse_future_moment
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

TMP_DIR = Path("/tmp")  # noqa: S108 - where agents make what they send
MAX_TEXT_CHARS = 300_000
"""Characters of one message. Even if each is escaped in the worst way, its row stays below MAX_CONTENT_BYTES."""

Now = Callable[[], datetime]


class SendError(Exception):
    """A message of the agent cannot go out; the text tells the agent why."""


class Outbox:
    """One attempt of one turn. It is told what is being answered by `add_messages`."""

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
        """`zone`: of the times that the agent writes."""
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
        """The agent is asked all of it once more: what it says again in the same words is what it has said."""
        self._occurrences.clear()

    def close(self) -> None:
        """The turn is over: a call that is still under way has nobody to act for."""
        self._is_closed = True

    def add_messages(self, messages: tuple[MessageIn, ...]) -> None:
        """These are being answered now, too."""
        self._messages += messages

    def add_answers(self, messages: Sequence[MessageIn]) -> None:
        """These answer questions of the turn: they can be replied to, and change nothing of what is being answered."""
        self._answers += messages

    def reply_context(self, answering: Sequence[MessageIn] = ()) -> ReplyContext:
        """What an answer refers to: these messages of the turn, or else all of them."""
        return ReplyContext(answering or self._messages, turn_messages=[*self._answers, *self._messages])

    def compose_block(self, block: Block, reply_context: ReplyContext) -> NewMessageOut | UnreachableTarget:
        """A block of the answer as a row, or why it cannot be one."""
        where = resolve_address(block.to, block.reply_to_seq, book=self.address_book, reply_context=reply_context)
        return where if isinstance(where, UnreachableTarget) else self._compose(block.text, where)

    def compose_bare_text(self, text: str, reply_context: ReplyContext) -> NewMessageOut | UnreachableTarget:
        """Text outside of blocks as a row, or why it cannot be one."""
        where = resolve_bare_address(book=self.address_book, reply_context=reply_context)
        return where if isinstance(where, UnreachableTarget) else self._compose(text, where)

    async def send_message(
        self, text: str, *, to: str | None = None, re: int | None = None, at: str | None = None
    ) -> SentMessage:
        """Send text now, or at a moment (see moments.py). Raises NotSent."""
        deliver_after = self.parse_moment(at) if at else None
        row = self._row(OutKind.CHAT, ChatOut(text=_truncate(text)), self._address(to, re))
        return await self._commit(replace(row, deliver_after=deliver_after))

    async def schedule_message(self, text: str, cron: str, *, to: str | None = None, at: str | None = None) -> str:
        """Have text sent again and again, at the times of a cron expression. Returns the task's id. Raises NotSent."""
        deliver_after = self.parse_moment(at) if at else None
        row = self._row(OutKind.CHAT, ChatOut(text=_truncate(text)), self._address(to, None))
        return await self._request(replace(row, deliver_after=deliver_after, recurrence=strip_control_chars(cron)))

    async def schedule_task(self, task: TaskOut) -> str:
        """Have the host hand us a task when it falls due; answers go where this turn's do. Returns the task's id."""
        row = self._row(OutKind.TASK, replace(task, prompt=_truncate(task.prompt)), self._address(None, None))
        return await self._request(row)

    async def request_action(self, action: str, arguments: Mapping[str, object]) -> None:
        """Ask the host to do something. What happens to it comes as a message, if it has to be known."""
        payload = SystemOut(action=action, arguments=json.dumps(arguments, sort_keys=True))
        await self._request(self._row(OutKind.SYSTEM, payload, self._address(None, None)))

    async def read_meta(self, key: str) -> str | None:
        """What the host says of the session now, by key."""
        return (await self._mailbox.meta()).get(key)

    def parse_moment(self, text: str, *, timezone: str | None = None) -> datetime:
        """What the agent wrote as a moment that is to come, by clocks there or else here. Raises NotSent."""
        try:
            return parse_future_moment(text, zone=self.resolve_zone(timezone), now=self._now())
        except ValueError as error:
            raise SendError(f"{error}.") from None

    def resolve_zone(self, timezone: str | None) -> tzinfo:
        """The zone of this name, else ours. Raises NotSent."""
        return _load_zone(timezone) or self.zone

    async def ask_question(
        self, text: str, options: tuple[str, ...], *, to: str | None = None, re: int | None = None
    ) -> SentMessage:
        """Send a question now, with choices or without; the answer comes as a message. Raises NotSent."""
        return await self._send(OutKind.QUESTION, QuestionOut(text=_truncate(text), options=options), to, re)

    async def wait_for_answer(self, question: SentMessage, wait_s: float) -> AnswerOutcome:
        """Wait for the answer to a question that was asked. In a turn that is run again it may have come long since."""
        taken = None
        if not question.is_new:
            with suppress(FileNotReady, FileLocked):
                taken = await self._mailbox.find_claimed_answer(question)
        return await self._questions.wait(question.id, wait_s) if taken is None else parse_answer(taken)

    async def edit_message(self, seq: int, text: str) -> SentMessage:
        """Give a message of ours another text; the host knows where it is. Raises NotSent."""
        if not 0 < seq <= MAX_SEQ or seq % 2 == 0:
            raise SendError(f"Message {seq} is not one of yours.")
        return await self._send(OutKind.EDIT, EditOut(message=seq, text=_truncate(text)), None, None)

    async def react(self, seq: int, emoji: str) -> SentMessage:
        """Put an emoji on a message of this conversation; the host knows where it is. Raises NotSent."""
        is_ours = seq % 2 == 1
        if not 0 < seq <= MAX_SEQ or not (is_ours or _has_platform_id(await self._mailbox.find_inbound(seq))):
            raise SendError(f"There is no message {seq} to react to.")
        return await self._send(
            OutKind.REACTION, ReactionOut(message=seq, emoji=strip_control_chars(emoji)), None, None
        )

    async def send_path(
        self, path: str, *, caption: str = "", to: str | None = None, re: int | None = None
    ) -> SentMessage:
        """Send a file of the agent's folder or of /tmp now. Raises NotSent."""
        roots = (self._layout.agent_dir, TMP_DIR)
        read = partial(own_files.read_file, path, roots=roots)
        return await self._send_file(Path(path).name, read, caption, self._address(to, re))

    async def send_file(self, name: str, data: bytes, *, caption: str = "", re: int | None = None) -> SentMessage:
        """Send a file now, by bare name. Raises NotSent."""
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
        """The id of the task that the row makes, if it makes one."""
        await self._commit(row)
        return task_id(session=self._session, request=row.id)

    async def _send(self, kind: OutKind, payload: OutPayload, to: str | None, re: int | None) -> SentMessage:
        return await self._commit(self._row(kind, payload, self._address(to, re)))

    async def _commit(self, row: NewMessageOut) -> SentMessage:
        """All that a tool sends or asks for goes out here, and nothing once the turn is over. Raises NotSent."""
        self._require_open()
        said = await self._mailbox.send(row, self._now())
        self.sent_ids.add(said.id)
        return said

    def _require_open(self) -> None:
        """Raises NotSent once the turn is over."""
        if self._is_closed:
            raise SendError("The turn is over; nothing was done.")

    def _address(self, to: str | None, re: int | None) -> Address:
        where = resolve_address(to, re, book=self.address_book, reply_context=self.reply_context())
        if isinstance(where, UnreachableTarget):
            raise SendError(where.problem)
        return where

    def _compose(self, text: str, where: Address) -> NewMessageOut:
        """A message of the answer: to be committed with the turn's end."""
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
        """It came to nothing: the next one like it is the first again, as it will be when the turn is run again."""
        self._occurrences[str(row.kind), row.destination or "", row.content] -= 1


def _load_zone(name: str | None) -> tzinfo | None:
    """A time zone by name; None where it is left to the host to say that it is none."""
    if name is None:
        return None
    from zoneinfo import ZoneInfo  # rarely needed, and a runner starts faster without it

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise SendError(f"There is no time zone {name[:60]!r}: write for example Europe/Berlin.") from None


def _has_platform_id(message: MessageIn | None) -> bool:
    return message is not None and message.origin is not None and message.origin.platform_message_id is not None


def _read_file(read: Callable[[], bytes]) -> tuple[bytes, SendError | None]:
    """What was read, or why it was not."""
    try:
        return read(), None
    except own_files.UnreadableFile as error:
        return b"", SendError(str(error))


def _truncate(text: str) -> str:
    """Text that a row can carry; what is left out is said, as the host says it of what people write."""
    text = strip_control_chars(text)
    more = len(text) - MAX_TEXT_CHARS
    return text if more <= 0 else f"{text[:MAX_TEXT_CHARS]}\n[cut: {more} more characters]"


def _write_file(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
