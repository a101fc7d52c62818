"""The terminal: the conformance suite, and what is the terminal's own."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from channels.terminal import MAX_LINE_BYTES, TerminalChannel, create
from nanohost.channel_api import (
    Address,
    Ambiguous,
    Channel,
    ChannelContext,
    ChannelDown,
    ChannelError,
    OutboundText,
    RefusedHere,
    ShowsTyping,
    Work,
)
from nanohost.testing.channel_suite import ChannelBench, ChannelSuite, SuiteInbox, receiving
from nanohost.testing.content import Content
from nanohost.testing.limits import HANG_S, seconds

from .receiving import handing_in
from .terminal_person import TerminalPerson

CHAT = Address(platform_id="local")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class TerminalBench(ChannelBench):
    def __init__(self, runtime_dir: Path) -> None:
        self.person = TerminalPerson(runtime_dir / "terminal.sock")
        self._channel = create(
            ChannelContext(instance="terminal", settings={}, runtime_dir=runtime_dir, home=runtime_dir)
        )

    @property
    def channel(self) -> Channel:
        return self._channel

    @property
    def address(self) -> Address:
        return CHAT

    async def arrive(self) -> None:
        await self.person.arrive()

    async def leave(self) -> None:
        await self.person.leave()

    async def person_writes(self, text: str, *, message_id: str) -> None:
        self.person.writes(text, message_id)

    async def person_sees(self, count: int) -> Sequence[str]:
        await self.person.until(lambda: len(self.person.screen) >= count)
        return self.person.screen

    async def garbage(self) -> None:
        for line in GARBAGE:
            self.person.tell_bytes(line)

    def acknowledged(self) -> Sequence[str]:
        return self.person.accepted

    async def settle(self) -> None:
        await self.person.settle()


GARBAGE = [
    b"\n",
    b"hello\n",
    b"\xff\xfe\x00\n",
    b"{\n",
    b"[" * 100_000 + b"\n",
    b"9" * 10_000 + b"\n",
    b"null\n",
    b'"text"\n',
    b"{}\n",
    b'{"type": 1}\n',
    b'{"type": []}\n',
    b'{"type": "shutdown"}\n',
    b'{"type": "message"}\n',
    b'{"type": "message", "id": 5, "text": "x"}\n',
    b'{"type": "message", "id": "", "text": "x"}\n',
    b'{"type": "message", "id": "a", "text": null}\n',
    b'{"type": "message", "id": "' + b"a" * 1000 + b'", "text": "x"}\n',
    b'{"type": "received"}\n',
    b'{"type": "hello", "chat": {}}\n',
    b"x" * (3 * MAX_LINE_BYTES) + b"\n",
    b"x" * MAX_LINE_BYTES + b"x\n",
]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[TerminalBench]:
    bench = TerminalBench(tmp_path)
    yield bench
    await bench.leave()


@pytest.fixture
def person(bench: TerminalBench) -> TerminalPerson:
    return bench.person


@pytest.fixture
def inbox() -> SuiteInbox:
    return SuiteInbox()


@pytest.mark.behaviour("IN-01", "IN-02", "IN-07", "DL-01", "DL-04")
@pytest.mark.content(Content.TEXT)
class TestTerminalConforms(ChannelSuite):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[ChannelBench]:
        bench = TerminalBench(tmp_path)
        yield bench
        await bench.leave()


# What clients say


async def test_a_message_says_who_wrote_it_and_in_which_chat(bench: TerminalBench, inbox: SuiteInbox) -> None:
    async with receiving(bench, inbox):
        await bench.person_writes("hello", message_id="0001")
        event = await inbox.until_accepted("hello")
    assert (event.platform_id, event.platform_message_id) == ("local", "0001")
    assert (event.sender.handle, event.sender.name) == ("ann", "ann")
    assert (event.is_group, event.thread_id, event.chat_name) == (False, None, "terminal")


async def test_a_client_that_gives_no_names_is_the_local_user_in_the_local_chat(
    bench: TerminalBench, inbox: SuiteInbox
) -> None:
    async with receiving(bench, inbox):
        bench.person.tell({"type": "hello"})
        await bench.person_writes("hello", message_id="1")
        event = await inbox.until_accepted("hello")
    assert (event.platform_id, event.sender.handle) == ("local", "local")


@pytest.mark.parametrize("line", GARBAGE, ids=[repr(line[:30]) for line in GARBAGE])
@pytest.mark.content(Content.UNREADABLE)
async def test_a_line_that_makes_no_sense_is_answered_and_the_connection_stays(
    bench: TerminalBench, inbox: SuiteInbox, line: bytes
) -> None:
    async with receiving(bench, inbox):
        bench.person.tell_bytes(line)
        await bench.person.settle()
        assert len(bench.person.errors) == 1
        await bench.person_writes("still there?", message_id="1")
        await inbox.until_accepted("still there?")
    assert len(inbox.accepted) == 1


async def test_a_message_before_hello_is_answered_with_what_to_say(bench: TerminalBench, tmp_path: Path) -> None:
    async with bench.channel.connected():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "terminal.sock"))
            client.sendall(b'{"type": "message", "id": "1", "text": "x"}\n')
            client.settimeout(seconds(HANG_S))
            answer = await asyncio.to_thread(client.recv, 1000)
    assert json.loads(answer) == {"type": "error", "text": 'say {"type": "hello", …} first'}


async def test_the_longest_line_is_taken_and_halves_of_characters_are_replaced(
    bench: TerminalBench, inbox: SuiteInbox
) -> None:
    async with receiving(bench, inbox):
        await bench.person_writes("x" * 1024 * 1024, message_id="1")
        await bench.person_writes("\ud83d and \ud83d\ude00", message_id="2")
        await inbox.until(lambda: len(inbox.accepted) == 2)
    assert [event.text for event in inbox.accepted] == ["x" * 1024 * 1024, "\ufffd and 😀"]


@pytest.mark.behaviour("IN-01")
async def test_what_is_said_while_nobody_receives_waits_and_is_accepted_later(
    bench: TerminalBench, person: TerminalPerson, inbox: SuiteInbox
) -> None:
    async with bench.channel.connected():
        await person.arrive()
        person.writes("early", "1")
        await person.settle()
        assert person.accepted == []
        async with handing_in(bench.channel, inbox):
            await person.until(lambda: person.accepted == ["1"])


@pytest.mark.behaviour("IN-01", "IN-07")
async def test_a_message_that_could_not_be_committed_is_handed_in_again_before_the_next(
    bench: TerminalBench, person: TerminalPerson, inbox: SuiteInbox
) -> None:
    inbox.fail_once()
    async with receiving(bench, inbox) as host:
        person.writes("first", "1")
        person.writes("second", "2")
        await inbox.until(lambda: inbox.failed == 1)
        inbox.release()
        await person.until(lambda: person.accepted == ["1", "2"])
        assert [type(end) for end in host.ended] == [OSError]
    assert [event.text for event in inbox.accepted] == ["first", "second"]


async def test_a_flood_that_nobody_commits_is_held_back_and_nothing_of_it_is_lost(
    bench: TerminalBench, person: TerminalPerson, inbox: SuiteInbox
) -> None:
    ids = [f"{number:05}" for number in range(1000)]
    inbox.hold()
    async with receiving(bench, inbox):
        for message_id in ids:
            person.writes("x", message_id)
        await inbox.until(lambda: len(inbox.entered) == 1)
        inbox.release()
        await person.until(lambda: len(person.accepted) == len(ids))
    assert person.accepted == ids


# What is sent to clients


@pytest.mark.behaviour("DL-01")
async def test_every_client_of_the_chat_sees_the_answer_and_no_other_does(
    bench: TerminalBench, person: TerminalPerson, tmp_path: Path
) -> None:
    twin = TerminalPerson(tmp_path / "terminal.sock")
    stranger = TerminalPerson(tmp_path / "terminal.sock", chat="other")
    async with bench.channel.connected():
        for client in (person, twin, stranger):
            await client.arrive()
        await bench.channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
        await asyncio.gather(*(client.settle() for client in (person, twin, stranger)))
        await asyncio.gather(*(client.leave() for client in (twin, stranger)))
    assert (person.screen, twin.screen, stranger.screen) == (["hi"], ["hi"], [])


async def test_only_an_acknowledgement_from_the_chat_itself_counts(tmp_path: Path) -> None:
    channel, person, stranger = _terminal(tmp_path)
    person.says_received = False
    async with channel.connected():
        await person.arrive()
        await stranger.arrive()
        sending = asyncio.create_task(channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1"))
        await person.until(lambda: person.keys == ["k1"])
        stranger.tell({"type": "received", "key": "k1"})
        person.tell({"type": "received", "key": "another"})
        with pytest.raises(Ambiguous):
            await sending
        await asyncio.gather(person.leave(), stranger.leave())


async def test_a_message_that_nobody_acknowledges_is_ambiguous_and_a_late_word_settles_it(tmp_path: Path) -> None:
    channel, person, _ = _terminal(tmp_path)
    person.says_received = False
    async with channel.connected():
        await person.arrive()
        for _ in range(2):
            with pytest.raises(Ambiguous):
                await channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
        assert (person.screen, person.keys) == (["hi"], ["k1", "k1"])
        person.tell({"type": "received", "key": "k1"})
        await person.settle()
        receipt = await channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
        assert (receipt.platform_message_ids, person.keys) == (("k1",), ["k1", "k1"])
        await person.leave()


@pytest.mark.behaviour("DL-04")
async def test_a_chat_that_nobody_has_open_waits_even_when_another_chat_is_open(tmp_path: Path) -> None:
    channel, _, stranger = _terminal(tmp_path)
    async with channel.connected():
        await stranger.arrive()
        with pytest.raises(ChannelDown, match="nobody has the chat local open"):
            await channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
        stranger.tell({"type": "received", "key": "k1"})
        await stranger.leave()
    with pytest.raises(ChannelDown):
        await channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")


async def test_a_message_longer_than_a_line_is_refused(bench: TerminalBench, person: TerminalPerson) -> None:
    async with bench.channel.connected():
        await person.arrive()
        with pytest.raises(RefusedHere):
            await bench.channel.send(CHAT, OutboundText(text="\n" * MAX_LINE_BYTES), idempotency_key="k1")


async def test_a_client_that_stopped_reading_is_let_go_and_holds_nobody_up(tmp_path: Path) -> None:
    channel, person, _ = _terminal(tmp_path)
    async with channel.connected():
        await person.arrive()
        with socket.socket(socket.AF_UNIX) as stuck:
            stuck.connect(str(tmp_path / "terminal.sock"))
            stuck.sendall(b'{"type": "hello"}\n')
            for number in range(12):
                await channel.send(CHAT, OutboundText(text="x" * 1_000_000), idempotency_key=f"k{number}")
            assert len(channel._clients) == 1
        assert len(person.screen) == 12
        await person.leave()


async def test_typing_is_shown_in_the_chat_and_to_nobody_is_fine(bench: TerminalBench, person: TerminalPerson) -> None:
    assert isinstance(bench.channel, ShowsTyping)
    async with bench.channel.connected():
        await person.arrive()
        await bench.channel.typing(CHAT)
        await bench.channel.typing(Address(platform_id="elsewhere"))
        await person.settle()
    assert person.typings == 1


# The socket


async def test_only_the_own_user_may_open_the_socket_and_it_goes_with_the_channel(
    bench: TerminalBench, tmp_path: Path
) -> None:
    path = tmp_path / "terminal.sock"
    async with bench.channel.connected():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_socket_that_a_killed_host_left_is_replaced(bench: TerminalBench, tmp_path: Path) -> None:
    leave_a_socket = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", leave_a_socket, str(tmp_path / "terminal.sock"))
    assert await host.wait() == 0
    async with bench.channel.connected():
        await bench.arrive()


async def test_a_socket_that_another_host_serves_is_left_alone(bench: TerminalBench, tmp_path: Path) -> None:
    second = TerminalBench(tmp_path)
    async with bench.channel.connected():
        with pytest.raises(ChannelError, match="served by another process"):
            async with second.channel.connected():
                pass
        await bench.arrive()


async def test_a_file_that_is_no_socket_is_left_alone(bench: TerminalBench, tmp_path: Path) -> None:
    (tmp_path / "terminal.sock").write_text("precious")
    with pytest.raises(ChannelError, match=r"terminal\.sock cannot be opened"):
        async with bench.channel.connected():
            pass
    assert (tmp_path / "terminal.sock").read_text() == "precious"


async def test_a_home_in_a_deep_folder_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    deep.mkdir(parents=True)
    bench = TerminalBench(deep)
    for _ in range(2):
        async with bench.channel.connected():
            await bench.arrive()
            await bench.channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
            await bench.leave()
    assert bench.person.screen == ["hi"]
    assert not any(deep.iterdir())


async def test_leaving_does_not_wait_for_clients_that_keep_their_end_open(
    bench: TerminalBench, person: TerminalPerson, inbox: SuiteInbox
) -> None:
    inbox.hold()
    async with asyncio.timeout(seconds(HANG_S)), receiving(bench, inbox):
        for number in range(300):
            person.writes("x", str(number))
        await inbox.until(lambda: len(inbox.entered) == 1)
    await person.leave()
    assert person.accepted == []


def _terminal(runtime_dir: Path) -> tuple[TerminalChannel, TerminalPerson, TerminalPerson]:
    """A terminal that does not wait long, somebody in its chat, and somebody in another."""
    path = runtime_dir / "terminal.sock"
    channel = TerminalChannel(path, ack_timeout_s=seconds(0.2))
    return channel, TerminalPerson(path), TerminalPerson(path, chat="other")


async def test_clients_are_told_who_speaks_and_what_is_being_done(tmp_path: Path) -> None:
    channel = TerminalChannel(tmp_path / "terminal.sock")
    person = TerminalPerson(tmp_path / "terminal.sock")
    async with channel.connected():
        await person.arrive()
        assert person.seen == [{"type": "ready", "version": 2}]
        await channel.working(CHAT, Work(for_s=3.5, tool="Bash", tool_for_s=1.0))
        await channel.send(CHAT, OutboundText(text="Hello", agent="main"), idempotency_key="k1")
        await channel.send(CHAT, OutboundText(text="I cannot", is_trouble=True), idempotency_key="k2")
        working, *said = person.seen[1:]
        assert working == {"type": "typing", "for_s": 3.5, "tool": "Bash", "tool_for_s": 1.0, "for_person": False}
        assert [(one["agent"], one["trouble"]) for one in said] == [("main", False), ("", True)]
        await person.leave()


async def test_clients_are_told_when_it_was_said(tmp_path: Path) -> None:
    channel = TerminalChannel(tmp_path / "terminal.sock")
    person = TerminalPerson(tmp_path / "terminal.sock")
    async with channel.connected():
        await person.arrive()
        await channel.send(CHAT, OutboundText(text="Hello", at=NOON), idempotency_key="k1")
        await channel.send(CHAT, OutboundText(text="Hello"), idempotency_key="k2")
        assert [one["at"] for one in person.seen[1:]] == ["2026-01-02T12:00:00+00:00", None]
        await person.leave()


async def test_what_waits_is_tried_when_somebody_opens_the_chat(bench: TerminalBench, person: TerminalPerson) -> None:
    inbox = SuiteInbox()
    async with receiving(bench, inbox):
        assert inbox.reachings == 1
        await person.leave()
        await person.arrive()
        assert inbox.reachings == 2
