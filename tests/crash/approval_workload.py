"""Who writes where somebody has to say yes: an owner who is asked, strangers, an agent that asks for what is held.

Nobody is told what to press by a test: whoever reads a card presses it, or types what it says, as soon as it is there,
and sometimes twice. What they read is checked word by word; what came of it is looked up in the record as well.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path

from nanohost.db import agent_groups, roles
from nanohost.model import Role, UnknownSender
from nanohost.text import quoting
from tests.crash.platform import DeliveredCopy, FakePlatform
from tests.crash.workload import FOLDER, Chat, prepared_home

OWNER = "olga"
OWNERS_DM = f"dm-{OWNER}"
UNKNOWN_SENDERS_CHAT = "door"
"""A group with unknown senders."""
AGENTS_CHATS = ("c0", "c1", "c2")
ASKING_CHATS = ("q0", "q1", "q2")
MAX_OPEN = 4
"""Pending cards of one kind: the host asks about ten requests of an agent at a time."""
SCRIPT = [
    {"match": "^later", "actions": [{"answer": "done: {text}"}]},
    {"match": "tasks.create was approved", "actions": []},
    {"match": "destinations.add was approved", "actions": [{"answer": "told: {text}"}]},
    {
        "match": "^hold",
        "actions": [
            {"tool": "schedule_task", "arguments": {"prompt": "later {text}", "at": "in 0 s"}},
            {"answer": "echo: {text}"},
        ],
    },
    {
        "match": "^reach-",
        "actions": [
            {"tool": "add_destination", "arguments": {"name": "{text}", "chat": UNKNOWN_SENDERS_CHAT}},
            {"answer": "echo: {text}"},
        ],
    },
    {
        "match": "^ask",
        "actions": [
            {"tool": "ask_user_question", "arguments": {"question": "and {text}?", "options": ["Red", "Blue"]}},
            {"answer": "echo: {text}"},
        ],
    },
    {"match": ".", "actions": [{"answer": "echo: {text}"}]},
]
APPROVE_LABELS = ("Allow", "Allow once", "Let them in", "Blue")
"""What is pressed."""
_APPROVE_COMMAND = re.compile(r"/approve ([a-z0-9]+)")
_APPROVED_CARD = re.compile(r"\(`([a-z0-9]+)`\)\nApproved by `Olga`, ")
_ALREADY_APPROVED_TEXT = "Approved already by `Olga`"


class MessageKind(StrEnum):
    """What a message is for."""

    HELD_ACTION = "hold"
    """The agent is asked for a task, which the operator's policy holds."""
    UNKNOWN_SENDER = "knock"
    """A new unknown sender writes."""
    NEW_DESTINATION = "reach"
    """The agent is asked for a destination, which is held for everybody."""
    ASK = "ask"
    """The agent is to ask something, and waits for the answer."""
    COMMAND = "command"
    """The owner writes a host command."""


KINDS_WITH_CARDS = (MessageKind.HELD_ACTION, MessageKind.UNKNOWN_SENDER, MessageKind.NEW_DESTINATION)


class ApprovalWorkload:
    """Write numbered messages of all kinds in turn, `frequent_kind` every other time. See People."""

    def __init__(self, platform: FakePlatform, *, frequent_kind: MessageKind | None = None) -> None:
        self._platform = platform
        self._frequent_kind = frequent_kind
        self._kinds: list[MessageKind] = []
        self._asked_in: dict[int, str] = {}
        platform.on_card = self._handle_card
        self._pressed = 0

    @property
    def write_count(self) -> int:
        return len(self._kinds)

    def write(self) -> None:
        """One more message."""
        number = self.write_count
        what = self._next_kind()
        if what is MessageKind.ASK:
            self._asked_in[number] = self._quiet_chats()[0]
        self._kinds.append(what)
        self._platform.write(f"m{number}", self._chat(number), self._text(number), **self._sender_of(number))

    def expected(self) -> set[tuple[str, str]]:
        """What people should have seen in the end, each once, as (chat, text)."""
        return {each for number in range(self.write_count) for each in self._answers(number)}

    def multipart_texts(self) -> list[list[tuple[str, str]]]:
        return []

    def find_anomalies(self, root: Path) -> Iterator[str]:
        """Anomalies of cards and records: one card a request, one effect, one end."""
        for number, what in enumerate(self._kinds):
            if what in KINDS_WITH_CARDS:
                cards = self._cards(number)
                if len(cards) != 1:
                    yield f"{len(cards)} cards ask about {self._text(number)}"
                yield from (f"a card still asks: {self._text(number)}" for card in cards if not _is_ended(card))
        ids = Counter(match[1] for copy in self._expected_notices() if (match := _APPROVED_CARD.search(copy.text)))
        yield from (f"{id} was said to be decided {count} times" for id, count in ids.items() if count > 1)
        late = sum(copy.text.startswith(_ALREADY_APPROVED_TEXT) for copy in self._expected_notices())
        if late > self._count(*KINDS_WITH_CARDS):
            yield f"{late} sentences to whoever came too late"
        strange = [
            copy
            for copy in self._expected_notices()
            if not (_APPROVED_CARD.search(copy.text) or copy.text.startswith(_ALREADY_APPROVED_TEXT))
        ]
        yield from (f"nobody was to read in {copy.chat}: {copy.text}" for copy in strange)
        yield from self._find_record_anomalies(root)

    def _find_record_anomalies(self, root: Path) -> Iterator[str]:
        wanted = {
            "SELECT count(*) FROM approvals WHERE status = 'approved'": self._count(*KINDS_WITH_CARDS),
            "SELECT count(*) FROM approvals": self._count(*KINDS_WITH_CARDS),
            "SELECT count(*) FROM destinations": self._count(MessageKind.NEW_DESTINATION),
            "SELECT count(*) FROM tasks": self._count(MessageKind.HELD_ACTION),
            "SELECT count(*) FROM roles WHERE role = 'member'": self._count(MessageKind.UNKNOWN_SENDER),
            "SELECT count(*) FROM questions WHERE status = 'answered' AND answer = 'Blue'": self._count(
                MessageKind.ASK
            ),
            "SELECT count(*) FROM questions": self._count(MessageKind.ASK),
            "SELECT count(*) FROM audit_log WHERE action = 'approval.approved'": self._count(*KINDS_WITH_CARDS),
        }
        with closing(sqlite3.connect(f"file:{root / 'data' / 'nanohost.db'}?mode=ro", uri=True)) as db:
            for question, count in wanted.items():
                found = db.execute(question).fetchone()[0]
                if found != count:
                    yield f"{found} instead of {count}: {question}"

    def _next_kind(self) -> MessageKind:
        number = self.write_count
        if self._frequent_kind is not None and number % 2:
            wish = self._frequent_kind
        else:
            wish = list(MessageKind)[number // (1 if self._frequent_kind is None else 2) % len(MessageKind)]
        can_be = self._quiet_chats() if wish is MessageKind.ASK else len(self._pending_numbers(wish)) < MAX_OPEN
        return wish if can_be else MessageKind.COMMAND

    def _quiet_chats(self) -> list[str]:
        """The chats without questions: another message there would be the answer, or end the wait."""
        waiting = {self._chat(number) for number in self._pending_numbers(MessageKind.ASK)}
        return [chat for chat in ASKING_CHATS if chat not in waiting]

    def _pending_numbers(self, what: MessageKind) -> list[int]:
        """The numbers of those that are not done, as far as people see."""
        seen = self._platform.texts().keys()
        return [number for number, one in enumerate(self._kinds) if one is what and not self._answers(number) <= seen]

    def _chat(self, number: int) -> str:
        match self._kinds[number]:
            case MessageKind.UNKNOWN_SENDER:
                return UNKNOWN_SENDERS_CHAT
            case MessageKind.COMMAND:
                return OWNERS_DM
            case MessageKind.ASK:
                return self._asked_in[number]
            case _:
                return AGENTS_CHATS[number % len(AGENTS_CHATS)]

    def _text(self, number: int) -> str:
        match self._kinds[number]:
            case MessageKind.NEW_DESTINATION:
                return f"reach-{number}"
            case MessageKind.COMMAND:
                return f"/approve no{number}"
            case what:
                return f"{what} {number}"

    def _sender_of(self, number: int) -> Mapping[str, object]:
        match self._kinds[number]:
            case MessageKind.UNKNOWN_SENDER:
                return {"sender": f"guest{number}", "group": True}
            case MessageKind.COMMAND:
                return {"sender": OWNER}
            case _:
                return {}

    def _answers(self, number: int) -> set[tuple[str, str]]:
        chat, text = self._chat(number), self._text(number)
        echo = (chat, f"echo: {text}")
        match self._kinds[number]:
            case MessageKind.HELD_ACTION:
                return {echo, (chat, f"done: later {text}")}
            case MessageKind.NEW_DESTINATION:
                done = f"Your request destinations.add was approved and is done. You can send to {text} now."
                return {echo, (chat, f"told: {done}")}
            case MessageKind.ASK:
                return {echo, (chat, f"From the agent `{FOLDER}`:\nand {text}?")}
            case MessageKind.COMMAND:
                unknown = quoting.name(text.removeprefix("/approve "))
                return {(chat, f"Nothing with the id {unknown} waits for you.\nHint: look at the id on its card")}
            case _:
                return {echo}

    def _handle_card(self, card: DeliveredCopy, buttons: Sequence[Mapping[str, str]]) -> None:
        """Press a button, or type the command; every third one is repeated at once."""
        [button] = [one for one in buttons if one["label"] in APPROVE_LABELS]
        self._pressed += 1
        typed = _APPROVE_COMMAND.search(card.text)
        for again in range(2 if self._pressed % 3 == 0 else 1):
            id = f"p{self._pressed}-{again}"
            if typed and self._pressed % 4 == 0:
                self._platform.write(id, card.chat, f"/approve {typed[1]}", sender=OWNER)
            else:
                sender = OWNER if card.chat == OWNERS_DM else "ann"
                self._platform.write(id, card.chat, button["label"], sender=sender, value=button["value"])

    def _cards(self, number: int) -> list[DeliveredCopy]:
        """The cards about a message, each once however often it was seen."""
        words = re.compile(rf"\b{re.escape(self._cards_by_number(number))}\b")
        found = {copy.key: copy for copy in self._platform.seen if copy.buttons and words.search(copy.text)}
        return [card for card in found.values() if card.chat == OWNERS_DM]

    def _cards_by_number(self, number: int) -> str:
        return f"guest{number}" if self._kinds[number] is MessageKind.UNKNOWN_SENDER else self._text(number)

    def _expected_notices(self) -> list[DeliveredCopy]:
        """The notices that people read beside the answers and the cards."""
        expected = self.expected()
        others = [one for one in self._platform.seen if not one.buttons and (one.chat, one.text) not in expected]
        return list({one.key: one for one in others}.values())

    def _count(self, *whats: MessageKind) -> int:
        return sum(self._kinds.count(what) for what in whats)


def _is_ended(card: DeliveredCopy) -> bool:
    return bool(card.edits and _APPROVED_CARD.search(card.edits[-1]))


async def prepare_home(root: Path) -> None:
    """An owner, an agent group and its chats, in a home without a host."""
    chats = [Chat(name) for name in (*AGENTS_CHATS, *ASKING_CHATS)]
    door = Chat(UNKNOWN_SENDERS_CHAT, is_group=True, unknown=UnknownSender.REQUEST_APPROVAL)
    async with prepared_home(root, [*chats, door], script=json.dumps(SCRIPT)) as (tx, now):
        assert await agent_groups.find(tx, FOLDER) is not None
        await roles.grant(tx, user_id=f"wire:{OWNER}", role=Role.OWNER, agent_group=None, now=now)
