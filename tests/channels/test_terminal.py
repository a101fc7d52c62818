"""The terminal channel: the conformance suite, and what is specific to the terminal."""

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
from nanohost.testing.channel_suite import ChannelHarness, ChannelSuite, SuiteInbox, run_receive_loop
from nanohost.testing.content import ContentKind
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

from .receiving import run_receive
from .terminal_person import TerminalTestClient

CHAT = Address(platform_id="local")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class TerminalBench(ChannelHarness):
    def __init__(self, runtime_dir: Path) -> None:
        self.person = TerminalTestClient(runtime_dir / "terminal.sock")
        self._channel = create(
            ChannelContext(instance="terminal", settings={}, runtime_dir=runtime_dir, home=runtime_dir)
        )

    @property
    def channel(self) -> Channel:
        return self._channel

    @property
    def address(self) -> Address:
        return CHAT

    async def go_online(self) -> None:
        await self.person.connect()

    async def go_offline(self) -> None:
        await self.person.disconnect()

    async def person_writes(self, text: str, *, message_id: str) -> None:
        self.person.send_message(text, message_id)

    async def person_sees(self, count: int) -> Sequence[str]:
        await self.person.wait_until(lambda: len(self.person.screen) >= count)
        return self.person.screen

    async def send_garbage(self) -> None:
        for line in GARBAGE:
            self.person.send_bytes(line)

    def acknowledged(self) -> Sequence[str]:
        return self.person.accepted

    async def flush(self) -> None:
        await self.person.flush()


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
async def harness(tmp_path: Path) -> AsyncIterator[TerminalBench]:
    bench = TerminalBench(tmp_path)
    yield bench
    await bench.go_offline()


@pytest.fixture
def person(harness: TerminalBench) -> TerminalTestClient:
    return harness.person


@pytest.fixture
def inbox() -> SuiteInbox:
    return SuiteInbox()


@pytest.mark.behaviour("IN-01", "IN-02", "IN-07", "DL-01", "DL-04")
@pytest.mark.content(ContentKind.TEXT)
class TestTerminalConforms(ChannelSuite):
    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[ChannelHarness]:
        bench = TerminalBench(tmp_path)
        yield bench
        await bench.go_offline()


# Lines from clients


async def test_a_message_has_its_author_and_chat(harness: TerminalBench, inbox: SuiteInbox) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("hello", message_id="0001")
        event = await inbox.wait_for_accepted("hello")
    assert (event.platform_id, event.platform_message_id) == ("local", "0001")
    assert (event.sender.handle, event.sender.name) == ("ann", "ann")
    assert (event.is_group, event.thread_id, event.chat_name) == (False, None, "terminal")


async def test_a_client_without_names_is_the_local_user_in_the_local_chat(
    harness: TerminalBench, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        harness.person.send_line({"type": "hello"})
        await harness.person_writes("hello", message_id="1")
        event = await inbox.wait_for_accepted("hello")
    assert (event.platform_id, event.sender.handle) == ("local", "local")


@pytest.mark.parametrize("line", GARBAGE, ids=[repr(line[:30]) for line in GARBAGE])
@pytest.mark.content(ContentKind.UNREADABLE)
async def test_an_invalid_line_is_answered_and_the_connection_stays_open(
    harness: TerminalBench, inbox: SuiteInbox, line: bytes
) -> None:
    async with run_receive_loop(harness, inbox):
        harness.person.send_bytes(line)
        await harness.person.flush()
        assert len(harness.person.errors) == 1
        await harness.person_writes("still there?", message_id="1")
        await inbox.wait_for_accepted("still there?")
    assert len(inbox.accepted) == 1


async def test_a_message_before_hello_is_answered_with_the_expected_line(
    harness: TerminalBench, tmp_path: Path
) -> None:
    async with harness.channel.connected():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "terminal.sock"))
            client.sendall(b'{"type": "message", "id": "1", "text": "x"}\n')
            client.settimeout(scaled_timeout(HANG_TIMEOUT_S))
            answer = await asyncio.to_thread(client.recv, 1000)
    assert json.loads(answer) == {"type": "error", "text": 'say {"type": "hello", …} first'}


async def test_the_longest_line_is_accepted_and_lone_surrogates_are_replaced(
    harness: TerminalBench, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("x" * 1024 * 1024, message_id="1")
        await harness.person_writes("\ud83d and \ud83d\ude00", message_id="2")
        await inbox.wait_until(lambda: len(inbox.accepted) == 2)
    assert [event.text for event in inbox.accepted] == ["x" * 1024 * 1024, "\ufffd and 😀"]


@pytest.mark.behaviour("IN-01")
async def test_a_message_sent_before_receive_begins_is_accepted_later(
    harness: TerminalBench, person: TerminalTestClient, inbox: SuiteInbox
) -> None:
    async with harness.channel.connected():
        await person.connect()
        person.send_message("early", "1")
        await person.flush()
        assert person.accepted == []
        async with run_receive(harness.channel, inbox):
            await person.wait_until(lambda: person.accepted == ["1"])


@pytest.mark.behaviour("IN-01", "IN-07")
async def test_a_message_that_could_not_be_committed_is_offered_again_before_the_next(
    harness: TerminalBench, person: TerminalTestClient, inbox: SuiteInbox
) -> None:
    inbox.fail_once()
    async with run_receive_loop(harness, inbox) as host:
        person.send_message("first", "1")
        person.send_message("second", "2")
        await inbox.wait_until(lambda: inbox.failed_commits == 1)
        inbox.release()
        await person.wait_until(lambda: person.accepted == ["1", "2"])
        assert [type(end) for end in host.results] == [OSError]
    assert [event.text for event in inbox.accepted] == ["first", "second"]


async def test_a_flood_of_uncommitted_messages_is_throttled_and_none_is_lost(
    harness: TerminalBench, person: TerminalTestClient, inbox: SuiteInbox
) -> None:
    ids = [f"{number:05}" for number in range(1000)]
    inbox.hold()
    async with run_receive_loop(harness, inbox):
        for message_id in ids:
            person.send_message("x", message_id)
        await inbox.wait_until(lambda: len(inbox.received) == 1)
        inbox.release()
        await person.wait_until(lambda: len(person.accepted) == len(ids))
    assert person.accepted == ids


# Lines to clients


@pytest.mark.behaviour("DL-01")
async def test_every_client_of_the_chat_sees_the_answer_and_no_other_does(
    harness: TerminalBench, person: TerminalTestClient, tmp_path: Path
) -> None:
    twin = TerminalTestClient(tmp_path / "terminal.sock")
    stranger = TerminalTestClient(tmp_path / "terminal.sock", chat="other")
    async with harness.channel.connected():
        for client in (person, twin, stranger):
            await client.connect()
        await harness.channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
        await asyncio.gather(*(client.flush() for client in (person, twin, stranger)))
        await asyncio.gather(*(client.disconnect() for client in (twin, stranger)))
    assert (person.screen, twin.screen, stranger.screen) == (["hi"], ["hi"], [])


async def test_only_an_acknowledgement_from_the_chat_itself_counts(tmp_path: Path) -> None:
    channel, person, stranger = _terminal(tmp_path)
    person.should_acknowledge = False
    async with channel.connected():
        await person.connect()
        await stranger.connect()
        sending = asyncio.create_task(channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1"))
        await person.wait_until(lambda: person.keys == ["k1"])
        stranger.send_line({"type": "received", "key": "k1"})
        person.send_line({"type": "received", "key": "another"})
        with pytest.raises(Ambiguous):
            await sending
        await asyncio.gather(person.disconnect(), stranger.disconnect())


async def test_an_unacknowledged_message_is_ambiguous_until_a_late_acknowledgement(tmp_path: Path) -> None:
    channel, person, _ = _terminal(tmp_path)
    person.should_acknowledge = False
    async with channel.connected():
        await person.connect()
        for _ in range(2):
            with pytest.raises(Ambiguous):
                await channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
        assert (person.screen, person.keys) == (["hi"], ["k1", "k1"])
        person.send_line({"type": "received", "key": "k1"})
        await person.flush()
        receipt = await channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
        assert (receipt.platform_message_ids, person.keys) == (("k1",), ["k1", "k1"])
        await person.disconnect()


@pytest.mark.behaviour("DL-04")
async def test_a_message_to_a_chat_without_a_client_waits_even_if_another_chat_has_one(tmp_path: Path) -> None:
    channel, _, stranger = _terminal(tmp_path)
    async with channel.connected():
        await stranger.connect()
        with pytest.raises(ChannelDown, match="nobody has the chat local open"):
            await channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
        stranger.send_line({"type": "received", "key": "k1"})
        await stranger.disconnect()
    with pytest.raises(ChannelDown):
        await channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")


async def test_a_message_longer_than_the_line_limit_is_refused(
    harness: TerminalBench, person: TerminalTestClient
) -> None:
    async with harness.channel.connected():
        await person.connect()
        with pytest.raises(RefusedHere):
            await harness.channel.send(CHAT, OutboundText(text="\n" * MAX_LINE_BYTES), idempotency_key="k1")


async def test_a_client_that_stopped_reading_is_disconnected_and_delays_nobody(tmp_path: Path) -> None:
    channel, person, _ = _terminal(tmp_path)
    async with channel.connected():
        await person.connect()
        with socket.socket(socket.AF_UNIX) as stuck:
            stuck.connect(str(tmp_path / "terminal.sock"))
            stuck.sendall(b'{"type": "hello"}\n')
            for number in range(12):
                await channel.send(CHAT, OutboundText(text="x" * 1_000_000), idempotency_key=f"k{number}")
            assert len(channel._clients) == 1
        assert len(person.screen) == 12
        await person.disconnect()


async def test_typing_is_shown_in_its_chat_and_may_have_no_clients(
    harness: TerminalBench, person: TerminalTestClient
) -> None:
    assert isinstance(harness.channel, ShowsTyping)
    async with harness.channel.connected():
        await person.connect()
        await harness.channel.typing(CHAT)
        await harness.channel.typing(Address(platform_id="elsewhere"))
        await person.flush()
    assert person.typings == 1


# The socket


async def test_only_the_hosts_user_may_open_the_socket_which_is_deleted_with_the_channel(
    harness: TerminalBench, tmp_path: Path
) -> None:
    path = tmp_path / "terminal.sock"
    async with harness.channel.connected():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_socket_left_by_a_killed_host_is_replaced(harness: TerminalBench, tmp_path: Path) -> None:
    leave_a_socket = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", leave_a_socket, str(tmp_path / "terminal.sock"))
    assert await host.wait() == 0
    async with harness.channel.connected():
        await harness.go_online()


async def test_a_socket_that_another_host_serves_is_left_alone(harness: TerminalBench, tmp_path: Path) -> None:
    second = TerminalBench(tmp_path)
    async with harness.channel.connected():
        with pytest.raises(ChannelError, match="served by another process"):
            async with second.channel.connected():
                pass
        await harness.go_online()


async def test_a_file_that_is_not_a_socket_is_left_alone(harness: TerminalBench, tmp_path: Path) -> None:
    (tmp_path / "terminal.sock").write_text("precious")
    with pytest.raises(ChannelError, match=r"terminal\.sock cannot be opened"):
        async with harness.channel.connected():
            pass
    assert (tmp_path / "terminal.sock").read_text() == "precious"


async def test_a_home_in_a_deep_folder_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    deep.mkdir(parents=True)
    bench = TerminalBench(deep)
    for _ in range(2):
        async with bench.channel.connected():
            await bench.go_online()
            await bench.channel.send(CHAT, OutboundText(text="hi"), idempotency_key="k1")
            await bench.go_offline()
    assert bench.person.screen == ["hi"]
    assert not any(deep.iterdir())


async def test_closing_does_not_wait_for_clients_that_stay_connected(
    harness: TerminalBench, person: TerminalTestClient, inbox: SuiteInbox
) -> None:
    inbox.hold()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), run_receive_loop(harness, inbox):
        for number in range(300):
            person.send_message("x", str(number))
        await inbox.wait_until(lambda: len(inbox.received) == 1)
    await person.disconnect()
    assert person.accepted == []


def _terminal(runtime_dir: Path) -> tuple[TerminalChannel, TerminalTestClient, TerminalTestClient]:
    """A terminal channel with a short wait, a client in its chat, and a client in another."""
    path = runtime_dir / "terminal.sock"
    channel = TerminalChannel(path, ack_timeout_s=scaled_timeout(0.2))
    return channel, TerminalTestClient(path), TerminalTestClient(path, chat="other")


async def test_clients_receive_the_speaker_and_the_current_activity(tmp_path: Path) -> None:
    channel = TerminalChannel(tmp_path / "terminal.sock")
    person = TerminalTestClient(tmp_path / "terminal.sock")
    async with channel.connected():
        await person.connect()
        assert person.seen == [{"type": "ready", "version": 2}]
        await channel.working(CHAT, Work(for_s=3.5, tool="Bash", tool_for_s=1.0))
        await channel.send(CHAT, OutboundText(text="Hello", agent="main"), idempotency_key="k1")
        await channel.send(CHAT, OutboundText(text="I cannot", is_trouble=True), idempotency_key="k2")
        working, *said = person.seen[1:]
        assert working == {"type": "typing", "for_s": 3.5, "tool": "Bash", "tool_for_s": 1.0, "for_person": False}
        assert [(one["agent"], one["trouble"]) for one in said] == [("main", False), ("", True)]
        await person.disconnect()


async def test_clients_receive_the_time_of_each_message(tmp_path: Path) -> None:
    channel = TerminalChannel(tmp_path / "terminal.sock")
    person = TerminalTestClient(tmp_path / "terminal.sock")
    async with channel.connected():
        await person.connect()
        await channel.send(CHAT, OutboundText(text="Hello", at=NOON), idempotency_key="k1")
        await channel.send(CHAT, OutboundText(text="Hello"), idempotency_key="k2")
        assert [one["at"] for one in person.seen[1:]] == ["2026-01-02T12:00:00+00:00", None]
        await person.disconnect()


async def test_opening_a_chat_retries_its_waiting_messages(harness: TerminalBench, person: TerminalTestClient) -> None:
    inbox = SuiteInbox()
    async with run_receive_loop(harness, inbox):
        assert inbox.reached_count == 1
        await person.disconnect()
        await person.connect()
        assert inbox.reached_count == 2
