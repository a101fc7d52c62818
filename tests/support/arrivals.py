"""The inputs of tests/cases/, and what the agent reads of an event.

Each file of tests/cases/ is a list of objects: `platform`, `name`, and what is sent (`input`, or `input_series` for
several); `sees` is in what the agent reads, `unseen` is not; `text`, `event`, `refers_to`, `album`, `mentions` are the
event's own, `files` and `events` how many there are. `then` says in words what a test of its own shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from agent_runner.destinations import AddressBook
from agent_runner.prompt import View, batch_prompt
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.model import EventId, WiringId
from nanohost.routing.albums import joined
from nanohost.routing.message import message_for
from nanohost.store.events import ChatKey, StoredEvent
from nanohost_protocol.rows import MessageIn

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
VIEW = View(
    now=NOW, zone=ZoneInfo("Europe/Berlin"), timezone="Europe/Berlin", book=AddressBook(destinations=(), default=None)
)
Case = Mapping[str, Any]


def cases(platform: str) -> list[Case]:
    """All that name this platform, of all files."""
    files = sorted((ROOT / "tests" / "cases").glob("*.json"))
    found = [case for file in files for case in json.loads(file.read_text(encoding="utf-8"))]
    return [case for case in found if case.get("platform") == platform]


def inputs(platform: str) -> list[Case]:
    """Those that say what is sent, and not what comes of it in words alone."""
    return [case for case in cases(platform) if "then" not in case]


def as_read(*events: InboundEvent) -> str:
    """What the agent reads of them, in one prompt."""
    return batch_prompt([_row(number, event) for number, event in enumerate(events)], VIEW).text


def _row(number: int, event: InboundEvent) -> MessageIn:
    new = message_for(_stored(number, event), WiringId(1))
    return MessageIn(
        seq=2 * number,
        id=new.id,
        kind=new.kind,
        timestamp=new.timestamp,
        status="pending",
        process_after=None,
        tries=0,
        trigger=True,
        on_wake=False,
        origin=new.origin,
        content=new.content,
    )


def _stored(number: int, event: InboundEvent) -> StoredEvent:
    chat = ChatKey("any", "default", event.platform_id)
    return StoredEvent(id=EventId(number), chat=chat, event=event, received_at=NOW)


def check(case: Case, events: Iterable[InboundEvent]) -> None:
    """That the events are what the case says. Raises AssertionError."""
    some = list(events)
    read = as_read(*some)
    assert len(some) == case.get("events", 1)
    assert [words for words in case["sees"] if words not in read] == [], read
    assert [words for words in case.get("unseen", []) if words in read] == [], read
    assert sum(len(event.attachments) for event in some) == case.get("files", 0)
    for event in some:
        assert event.kind == case.get("event", "message")
        assert event.album == case.get("album")
        if "input" in case:
            assert event.text == case.get("text", event.text)
            assert event.refers_to == case.get("refers_to", event.refers_to)
            assert event.mentions_bot == case.get("mentions", event.mentions_bot)
            assert event.text or event.parts or event.attachments or event.refers_to, "it tells nothing"


def table(rows: Iterable[tuple[Case, list[InboundEvent]]]) -> str:
    """What arrives as what, for the documentation."""
    lines = ["| what people send | what the agent reads |", "|---|---|"]
    return "\n".join([*lines, *(f"| {case['name']} | {_cell(events)} |" for case, events in rows)])


_TOLD = {EventKind.DELETION: "that it is gone", EventKind.REACTION_REMOVED: "that it was taken back"}


def _cell(events: list[InboundEvent]) -> str:
    """Without what is the same for all: who wrote, when and where."""
    rows = [_TOLD.get(event.kind) or f"`{_row_text(event)}`" for event in _as_one(events)]
    files = sum(len(event.attachments) for event in events)
    told = {0: "", 1: " and the file"}.get(files, f" and {files} files")
    return ("<br>".join(rows) or "nothing").replace("|", "\\|") + told


def _as_one(events: list[InboundEvent]) -> list[InboundEvent]:
    """An album is one message; see routing/albums.py."""
    if not events or events[0].album is None:
        return events
    return [joined([_stored(number, event) for number, event in enumerate(events)])]


def _row_text(event: InboundEvent) -> str:
    row = as_read(event).partition("\n")[2]
    return " ".join(re.sub(r' (from="[^"]*" )?id="\d+" time="[^"]*"', "", row, count=1).split())
