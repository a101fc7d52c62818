"""The message that an edit, a reaction or a press refers to: found while the files contain it, and never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_runner.mailbox import Mailbox
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.outbound import MAX_KEPT_REFS, OutboundWriter, TurnEnd
from nanohost_protocol.payloads import ChatIn, ChatOut, encode
from nanohost_protocol.rows import ChatId, DeliveryResult, Destination, NewMessageIn, NewMessageOut, OutKind, Usage
from tests.runner.host_side import SessionHost, make_chat_message

pytestmark = pytest.mark.behaviour("RT-11")

NOW = datetime.now(UTC)
HERE, ELSEWHERE = (
    Destination(name=id, display_name=id, chat=ChatId("terminal", "main", id)) for id in ("chat-1", "chat-2")
)


@pytest.fixture
def host(tmp_path: Path) -> SessionHost:
    return SessionHost(tmp_path / "session")


@pytest.fixture
def runner(host: SessionHost) -> Iterator[OutboundWriter]:
    with closing(OutboundWriter(host.layout.outbound_db, container_id="old", durable=False)) as writer:
        yield writer


def about(id: str, refers_to: str, *, event: str = "reaction", chat_id: str = "chat-1") -> NewMessageIn:
    """The row of the host for an edit, a reaction, or a press (which is a message)."""
    row = make_chat_message(id, "", platform_id=chat_id)
    assert row.origin is not None
    content = encode(ChatIn(text="x", sender="Ada", sender_id="u", event=event, refers_to=refers_to))
    return replace(row, content=content, origin=replace(row.origin, platform_message_id=refers_to))


async def known_references(host: SessionHost) -> Mapping[str, int]:
    """The references that a runner knows at its start."""
    with closing(Mailbox(host.layout, lease="new", durable=False)) as mailbox:
        news = await mailbox.poll(NOW)
    assert news is not None
    return news.referenced_seqs


def write_sent_messages(
    host: SessionHost, runner: OutboundWriter, *ids: str, to: str | None = None, turn: str = "t"
) -> None:
    """Messages that the agent wrote and the host sent, with the platform ids `p-…`."""
    runner.claim(turn, (), NOW)
    rows = [
        NewMessageOut(id=id, turn_id=turn, kind=OutKind.CHAT, content=encode(ChatOut(text=id)), destination=to)
        for id in ids
    ]
    runner.finish(TurnEnd(turn_id=turn, messages=rows, usage=Usage()), highest_seen_seq=10, now=NOW)
    with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
        inbound.record_delivery_results(
            DeliveryResult(out_id=id, status="sent", platform_message_ids=(f"part-{id}", f"p-{id}"), changed_at=NOW)
            for id in ids
        )


@pytest.mark.parametrize("event", ["edit", "reaction"])
async def test_a_message_of_an_earlier_turn_is_found_by_its_number(host: SessionHost, event: str) -> None:
    host.insert(make_chat_message("m1", "teh"), make_chat_message("m2", "other"))
    with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
        for id in ("m1", "m2"):
            inbound.close(id, "completed")
    host.insert(about("e1", "platform-m1", event="edit"), about("e2", "platform-m1", event=event))
    assert await known_references(host) == {"e1": 2, "e2": 2}


async def test_a_message_that_is_not_in_the_mailbox_has_no_number(host: SessionHost) -> None:
    host.insert(
        make_chat_message("m1", "hi"), about("e1", "platform-gone"), about("e2", "platform-m1", chat_id="chat-9")
    )
    assert await known_references(host) == {}


@pytest.mark.parametrize("event", ["reaction", "message"])
@pytest.mark.parametrize("pruned", [False, True])
async def test_a_message_of_the_agent_is_found_by_its_number_even_after_pruning(
    host: SessionHost, runner: OutboundWriter, event: str, pruned: bool
) -> None:
    write_sent_messages(host, runner, "o1", "o2")
    if pruned:
        runner.prune(out_cursor=99, ack_cursor=0)
        assert host.sent() == []
    host.insert(about("e1", "p-o2", event=event), about("e2", "part-o1", event=event))
    assert await known_references(host) == {"e1": 13, "e2": 11}


async def test_the_latest_pruned_messages_are_still_found(host: SessionHost, runner: OutboundWriter) -> None:
    write_sent_messages(host, runner, "old", turn="t1")
    runner.prune(out_cursor=99, ack_cursor=0)
    write_sent_messages(host, runner, *(f"o{number}" for number in range(MAX_KEPT_REFS)), turn="t2")
    runner.prune(out_cursor=999, ack_cursor=0)
    host.insert(about("e1", "p-old"), about("e2", "p-o0"), about("e3", f"p-o{MAX_KEPT_REFS - 1}"))
    found = await known_references(host)
    assert found.keys() == {"e2", "e3"}
    assert found["e3"] - found["e2"] == 2 * (MAX_KEPT_REFS - 1)


@pytest.mark.parametrize("to", ["chat-1", None])
async def test_an_id_of_one_chat_does_not_match_in_another(
    host: SessionHost, runner: OutboundWriter, to: str | None
) -> None:
    with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
        inbound.set_destinations([HERE, ELSEWHERE], None)
    write_sent_messages(host, runner, "o1", to=to)
    host.insert(about("e1", "p-o1"), about("e2", "p-o1", chat_id="chat-2"))
    assert await known_references(host) == ({"e1": 11} if to else {}), (
        "where it went is not known, so nothing is guessed"
    )
