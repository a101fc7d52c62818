"""A session's two files in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost_protocol.inbound import inbound_snapshot, inbound_transaction
from nanohost_protocol.outbound import OutboundWriter
from nanohost_protocol.payloads import ChatIn, ChatOut, encode
from nanohost_protocol.rows import InKind, MessageIn, NewMessageIn, NewMessageOut, OutKind

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

MakeWriter = Callable[[str], OutboundWriter]


def make_message(id: str, text: str = "hello", *, process_after: datetime | None = None) -> NewMessageIn:
    """A chat message to the agent."""
    content = encode(ChatIn(text=text, sender="Ada", sender_id="u1"))
    return NewMessageIn(id=id, kind=InKind.CHAT, timestamp=NOON, content=content, process_after=process_after)


def make_answer(id: str, text: str = "hi", *, turn: str = "t1") -> NewMessageOut:
    """A chat message from the agent."""
    return NewMessageOut(id=id, turn_id=turn, kind=OutKind.CHAT, content=encode(ChatOut(text=text)), destination="home")


def insert_messages(path: Path, *ids: str) -> list[MessageIn]:
    """Messages that the host wrote, as the runner reads them."""
    with inbound_transaction(path, durable=False) as box:
        for id in ids:
            box.insert(make_message(id))
    with inbound_snapshot(path) as reader:
        return [found for id in ids if (found := reader.find(id))]


@pytest.fixture
def inbound(tmp_path: Path) -> Path:
    return tmp_path / "inbound.db"


@pytest.fixture
def outbound(tmp_path: Path) -> Path:
    return tmp_path / "outbound.db"


@pytest.fixture
def open_writer(outbound: Path) -> Iterator[MakeWriter]:
    """Writers of successive containers on the same file."""
    made: list[OutboundWriter] = []

    def make(container: str) -> OutboundWriter:
        made.append(OutboundWriter(outbound, container_id=container, durable=False))
        return made[-1]

    yield make
    for each in made:
        each.close()
