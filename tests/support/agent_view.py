"""What the agent reads of events that a channel handed in: the real intake's cleaning, row and prompt, no host.

What a case of tests/cases/ may say of it: `wait_for_text` is in what the agent reads, `not` is not; `text`, `event`,
`refers_to`, `album`, `mentions` are the event's own; `files` and `events` how many there are; `silent`: there is none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC
from pathlib import Path

from agent_runner.destinations import AddressBook
from agent_runner.prompt import PromptContext, make_batch_prompt
from nanohost.channel_api import EventKind, FetchesFiles, InboundEvent
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.inbox.sanitize import find_problem, sanitize
from nanohost.model import EventId, WiringId
from nanohost.routing.albums import merge_pieces
from nanohost.routing.inbound_message import build_message
from nanohost.testing.channel_suite import event_identity
from nanohost.testing.manual_clock import START
from nanohost_protocol.rows import Destination, MessageIn
from tests.support.cases import Case
from tests.support.rows import make_pending_message

CASE_KEYS = frozenset({"sees", "not", "text", "event", "refers_to", "album", "mentions", "files", "events", "silent"})
_ADDRESS_BOOK = AddressBook(destinations=(Destination(name="home", display_name="Home"),), default="home")


def render_prompt(rows: Sequence[MessageIn]) -> str:
    """The prompt of these rows."""
    return make_batch_prompt(rows, PromptContext(now=START, zone=UTC, timezone="UTC", address_book=_ADDRESS_BOOK)).text


def render_events(*events: InboundEvent) -> str:
    """The agent's prompt for them."""
    return render_prompt([_make_row(number, event) for number, event in enumerate(events)])


def render_accepted_events(*events: InboundEvent) -> str:
    """The same, of events as they are received. Fails for one that the host would not keep."""
    for event in events:
        assert find_problem(event) is None, f"{find_problem(event)}: {event}"
    return render_events(*(sanitize(event, has_threads=True) for event in events))


def unescape_xml(prompt: str) -> str:
    """The prompt after unescaping XML."""
    return prompt.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")


def _make_row(number: int, event: InboundEvent) -> MessageIn:
    new = build_message(_make_stored_event(number, event), WiringId(1))
    return make_pending_message(START, seq=2 * number, id=new.id, kind=new.kind, origin=new.origin, content=new.content)


def _make_stored_event(number: int, event: InboundEvent) -> StoredEvent:
    chat = ChatKey("any", "default", event.platform_id)
    return StoredEvent(id=EventId(number), chat=chat, event=event, received_at=START)


# Cases


def check_case(case: Case, events: Iterable[InboundEvent], *, files: Collection[bytes] | None = None) -> None:
    """Compare the accepted events with the case. `files`: the fetched files. Raises AssertionError."""
    some = list({event_identity(event): event for event in events}.values())
    assert len(some) == case.get("events", 0 if case.get("silent") else 1)
    if not some:
        return
    check_prompt(case, render_accepted_events(*some))
    assert sum(len(event.attachments) for event in some) == case.get("files", 0)
    assert files is None or (all(files) and len(files) == case.get("files", 0))
    for event in some:
        assert event.kind == case.get("event", "message")
        assert event.album == case.get("album")
        if "input" in case:
            assert event.text == case.get("text", event.text)
            assert event.refers_to == case.get("refers_to", event.refers_to)
            assert event.mentions_bot == case.get("mentions", event.mentions_bot)
            assert event.text or event.parts or event.attachments or event.refers_to, "it tells nothing"


def check_prompt(case: Case, prompt: str) -> None:
    """Check the required and forbidden texts of the agent's prompt. Raises AssertionError."""
    read = unescape_xml(prompt)
    assert [words for words in case.get("sees", []) if words not in read] == [], read
    assert [words for words in case.get("not", []) if words in read] == [], read


async def fetch_files(channel: FetchesFiles, events: Iterable[InboundEvent], folder: Path) -> set[bytes]:
    """The attached files of these events, each once."""
    found = set()
    for number, file in enumerate(one for event in events for one in event.attachments):
        path = folder / f"file-{number}"
        path.touch()
        await channel.fetch(file, path, most_bytes=10_000)
        found.add(path.read_bytes())
    return found


# Pages


def merge_album(events: Sequence[InboundEvent]) -> Sequence[InboundEvent]:
    """An album is one message; see routing/albums.py."""
    if not events or events[0].album is None:
        return events
    return [merge_pieces(events)]


_EVENT_DESCRIPTIONS = {EventKind.DELETION: "that it is gone", EventKind.REACTION_REMOVED: "that it was taken back"}


def table_cell(event: InboundEvent) -> str:
    """Without what is the same for all: author, chat and time."""
    if event.kind in _EVENT_DESCRIPTIONS:
        return _EVENT_DESCRIPTIONS[event.kind]
    element = render_accepted_events(event).partition("\n")[2].strip()
    frame = "message" if event.kind is EventKind.MESSAGE else ""
    inside = re.sub(rf"\A<{frame}[^>]*>|</{frame}>\Z", "", element).strip() if frame else _strip_attributes(element)
    files = [f"file {one.name or one.media_type}" for one in event.attachments]
    return "<br>".join(map(inline_code, filter(None, [*inside.splitlines(), *files])))


def _strip_attributes(element: str) -> str:
    return re.sub(r"\A<(\w+)[^>]*>", r"<\1>", element)


def inline_code(line: str) -> str:
    marks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    margin = " " if "`" in line else ""
    return f"{marks}{margin}{line}{margin}{marks}".replace("|", "\\|")
