"""What every channel must do, as tests. A channel's author subclasses the suite and brings a bench:

    class TestMyChannel(ChannelSuite):
        @pytest.fixture
        async def bench(self, tmp_path: Path) -> AsyncIterator[ChannelHarness]:
            async with MyPlatformOnLoopback() as platform:
                yield MyBench(platform, MyChannel(platform.url))

The bench stands for the platform and for one person on it who has one chat open with the bot: a loopback server that
speaks the platform's protocol, not a patched channel. Every wait of the suite ends after `HANG_TIMEOUT_S` seconds,
those of a bench should too. Needs pytest and pytest-asyncio; put
`pytest.register_assert_rewrite("nanohost.testing.channel_suite")` into a conftest.py for readable failures.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import ClassVar

import pytest

from nanohost.channel_api import (
    Accepted,
    Address,
    Capabilities,
    Channel,
    ChannelError,
    EventKind,
    InboundEvent,
    NotSent,
    OutboundText,
    ShowsTyping,
)
from nanohost.rendering import Limits, MessagePart, split_message
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

AWKWARD_TEXTS = {
    "empty": "",
    "blank": " \n\t ",
    "one-megabyte": "x" * 1_000_000,
    "one-megabyte-of-emoji": "\N{GRINNING FACE}" * 250_000,
    "control-characters": "".join(map(chr, range(32))) + "\x7f\x85\u2028\ufeff",
    "lone-surrogates": "\ud800 and \udfff",
    "right-to-left": "שלום \u202eabc\u202c مرحبا",
    "emoji": "👩‍👩‍👧‍👦 🇩🇪 1️⃣ e\u0301",
    "markup": "<b>*_`~ [a](b) &amp; </message> {json: \"'\\",
}


class ChannelHarness(ABC):
    """A channel, its platform, and a person there."""

    has_acknowledgements = True
    """False for a platform that expects no acknowledgement (the suite then skips what it says about that)."""

    @property
    @abstractmethod
    def channel(self) -> Channel: ...

    @property
    @abstractmethod
    def address(self) -> Address:
        """The chat that the person has open."""

    @abstractmethod
    async def go_online(self) -> None:
        """The platform, and the person on it, can be reached. Called inside `connected`, perhaps more than once."""

    @abstractmethod
    async def go_offline(self) -> None:
        """From now on nothing can be sent: the platform refuses connections, or the person is gone."""

    @abstractmethod
    async def person_writes(self, text: str, *, message_id: str) -> None:
        """Put a message on the wire, and do not wait for what happens to it.

        The same `message_id` once more is the platform delivering the same message once more.
        """

    @abstractmethod
    async def person_sees(self, count: int) -> Sequence[str]:
        """The texts on the person's screen, oldest first, once there are at least `count`."""

    @abstractmethod
    async def send_garbage(self) -> None:
        """Everything that the platform never should send: bytes that do not parse, wrong types, unknown events."""

    @abstractmethod
    def acknowledged(self) -> Sequence[str]:
        """The `message_id`s that the platform may forget, because the channel acknowledged them."""

    @abstractmethod
    async def flush(self) -> None:
        """Return when all that the channel has told the platform so far has arrived there."""


class SuiteInbox:
    """An inbox whose commit can be held up and can fail."""

    def __init__(self) -> None:
        self.received: list[InboundEvent] = []
        """Handed in, committed or not."""
        self.accepted: list[InboundEvent] = []
        self.failures: list[tuple[str, str, str]] = []
        """Messages that the platform gave up on after it took them: key, id and reason."""
        self.moved_chats: list[tuple[str, str]] = []
        """Chats that are called otherwise now."""
        self.reached_count = 0
        """How often somebody could be reached anew."""
        self.failed_commits = 0
        """How many commits failed."""
        self.saved_checkpoint: str | None = None
        """The checkpoint."""
        self._should_fail_next = False
        self._commit_gate = asyncio.Event()
        self._commit_gate.set()
        self._changed = asyncio.Condition()

    async def accept(self, event: InboundEvent) -> Accepted:
        async with self._changed:
            self.received.append(event)
            self._changed.notify_all()
        await self._commit_gate.wait()
        if self._should_fail_next:
            await self._fail_commit()
        async with self._changed:
            new = event_identity(event) not in [event_identity(earlier) for earlier in self.accepted]
            self.accepted.append(event)
            self._changed.notify_all()
        return Accepted(new=new)

    def reached(self) -> None:
        self.reached_count += 1

    async def moved(self, old: str, new: str) -> None:
        async with self._changed:
            self.moved_chats.append((old, new))
            self._changed.notify_all()

    async def latest(self) -> dict[str, str]:
        messages = [event for event in self.accepted if event.kind is EventKind.MESSAGE]
        return {event.platform_id: event.platform_message_id for event in messages}

    async def recent(self, platform_id: str, since: datetime) -> dict[str, str | None]:
        here = [event for event in self.accepted if event.platform_id == platform_id and event.sent_at >= since]
        gone = {event.refers_to for event in here if event.kind is EventKind.DELETION}
        messages = [event for event in here if event.kind is EventKind.MESSAGE and not event.sender.is_bot]
        known = {event.platform_message_id: event.thread_id for event in messages}
        return {id: thread for id, thread in known.items() if id not in gone}

    async def save_checkpoint(self, text: str) -> None:
        self.saved_checkpoint = text

    async def checkpoint(self) -> str | None:
        return self.saved_checkpoint

    async def failed_later(self, key: str, platform_message_id: str, reason: str) -> None:
        await self._commit_gate.wait()
        async with self._changed:
            self.failures.append((key, platform_message_id, reason))
            self._changed.notify_all()

    def hold(self) -> None:
        self._commit_gate.clear()

    def release(self) -> None:
        self._commit_gate.set()

    def fail_once(self) -> None:
        """The next commit fails, and those after it are held until `release`."""
        self._should_fail_next = True

    async def _fail_commit(self) -> None:
        self._should_fail_next = False
        self.hold()
        async with self._changed:
            self.failed_commits += 1
            self._changed.notify_all()
        raise OSError("the suite's inbox cannot commit now")

    async def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait until `happened()`; looked at whenever an event is handed in or committed."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), self._changed:
            await self._changed.wait_for(happened)

    async def wait_for_accepted(self, text: str) -> InboundEvent:
        """The first committed event with this text, once there is one."""
        await self.wait_until(lambda: any(event.text == text for event in self.accepted))
        return next(event for event in self.accepted if event.text == text)


def event_identity(event: InboundEvent) -> tuple[str, str, str]:
    """What names an event for ever, within one instance of a channel."""
    return event.platform_id, event.platform_message_id, event.kind


class ReceiveLoop:
    """`receive` as the host runs it: called again whenever it ends."""

    def __init__(self, channel: Channel, inbox: SuiteInbox) -> None:
        self.results: list[Exception | None] = []
        """How each call ended: what it raised, or None when it returned."""
        self._channel = channel
        self._inbox = inbox

    async def run(self) -> None:
        while len(self.results) < 100:
            try:
                await self._channel.receive(self._inbox)
            except Exception as error:
                self.results.append(error)
            else:
                self.results.append(None)
            await asyncio.sleep(0)


@asynccontextmanager
async def run_receive_loop(bench: ChannelHarness, inbox: SuiteInbox) -> AsyncIterator[ReceiveLoop]:
    """The channel is connected and receives, and the person is there."""
    host = ReceiveLoop(bench.channel, inbox)
    async with bench.channel.connected():
        task = asyncio.create_task(host.run(), name="receive")
        try:
            await bench.go_online()
            yield host
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class ChannelSuite:
    """Subclass it, name the class Test…, and add the fixture `harness`. A `receive` that is cancelled must end."""

    pytestmark: ClassVar = pytest.mark.asyncio

    @pytest.fixture
    def harness(self) -> ChannelHarness:
        raise NotImplementedError("override the fixture `bench` in your subclass")

    @pytest.fixture
    def inbox(self) -> SuiteInbox:
        return SuiteInbox()

    # What people write

    async def test_a_persons_message_is_accepted_with_every_field_the_host_needs(
        self, harness: ChannelHarness, inbox: SuiteInbox
    ) -> None:
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("good morning", message_id="1")
            event = await inbox.wait_for_accepted("good morning")
        assert event.platform_id == harness.address.platform_id
        assert event.platform_message_id
        assert event.sender.handle
        assert event.sent_at.utcoffset() is not None, "times are aware"

    async def test_the_platform_gets_no_acknowledgement_before_the_commit(
        self, harness: ChannelHarness, inbox: SuiteInbox
    ) -> None:
        if not harness.has_acknowledgements:
            pytest.skip("this platform expects no acknowledgement")
        inbox.hold()
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("keep this", message_id="1")
            await inbox.wait_until(lambda: len(inbox.received) == 1)
            await harness.flush()
            assert list(harness.acknowledged()) == []
            inbox.release()
            await _wait_for_acknowledgement(harness, "1")

    async def test_an_event_that_could_not_be_committed_is_not_acknowledged(
        self, harness: ChannelHarness, inbox: SuiteInbox
    ) -> None:
        if not harness.has_acknowledgements:
            pytest.skip("this platform expects no acknowledgement")
        inbox.fail_once()
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("keep this", message_id="1")
            await inbox.wait_until(lambda: inbox.failed_commits == 1)
            await harness.flush()
            assert list(harness.acknowledged()) == []
            inbox.release()
            await harness.person_writes("keep this", message_id="1")
            await inbox.wait_for_accepted("keep this")
            await _wait_for_acknowledgement(harness, "1")

    async def test_the_same_event_twice_has_the_same_identity(self, harness: ChannelHarness, inbox: SuiteInbox) -> None:
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("once", message_id="1")
            await harness.person_writes("once", message_id="1")
            await harness.person_writes("the end", message_id="2")
            end = await inbox.wait_for_accepted("the end")
        repeats = {event_identity(event) for event in inbox.accepted if event.text == "once"}
        assert len(repeats) == 1
        assert event_identity(end) not in repeats

    async def test_two_messages_with_the_same_text_are_two_events(
        self, harness: ChannelHarness, inbox: SuiteInbox
    ) -> None:
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("yes", message_id="1")
            await harness.person_writes("yes", message_id="2")
            await inbox.wait_until(lambda: len({event_identity(event) for event in inbox.accepted}) == 2)

    async def test_order_within_a_chat_is_kept(self, harness: ChannelHarness, inbox: SuiteInbox) -> None:
        texts = [f"line {number}" for number in range(30)]
        inbox.hold()
        async with run_receive_loop(harness, inbox):
            for text in texts:
                await harness.person_writes(text, message_id=text)
            await inbox.wait_until(lambda: len(inbox.received) >= 1)
            inbox.release()
            await inbox.wait_for_accepted(texts[-1])
        assert [event.text for event in inbox.accepted] == texts

    @pytest.mark.parametrize("text", AWKWARD_TEXTS.values(), ids=AWKWARD_TEXTS.keys())
    async def test_an_awkward_text_from_a_person_does_not_break_the_channel(
        self, harness: ChannelHarness, inbox: SuiteInbox, text: str
    ) -> None:
        async with run_receive_loop(harness, inbox) as host:
            await harness.person_writes(text, message_id="1")
            await harness.person_writes("still there?", message_id="2")
            await inbox.wait_for_accepted("still there?")
            assert host.results == []

    async def test_invalid_data_from_the_platform_does_not_end_receive(
        self, harness: ChannelHarness, inbox: SuiteInbox
    ) -> None:
        async with run_receive_loop(harness, inbox) as host:
            await harness.send_garbage()
            await harness.person_writes("still there?", message_id="1")
            await inbox.wait_for_accepted("still there?")
            assert host.results == []

    async def test_receive_can_be_cancelled_and_called_again(self, harness: ChannelHarness, inbox: SuiteInbox) -> None:
        async with harness.channel.connected():
            await harness.go_online()
            for attempt in ("first", "second", "third"):
                task = asyncio.create_task(harness.channel.receive(inbox))
                await harness.person_writes(attempt, message_id=attempt)
                await inbox.wait_for_accepted(attempt)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    # What is sent to people

    async def test_send_returns_a_receipt_and_the_person_sees_the_text_exactly(self, harness: ChannelHarness) -> None:
        text = "Grüße, 世界!\n  two spaces, a tab\t, <b>, & and 😀"
        async with harness.channel.connected():
            await harness.go_online()
            receipt = await _send(harness, text, "k1")
            assert all(receipt)
            assert list(await harness.person_sees(1)) == [text]

    async def test_messages_arrive_in_the_order_they_are_sent(self, harness: ChannelHarness) -> None:
        texts = [f"line {number}" for number in range(30)]
        async with harness.channel.connected():
            await harness.go_online()
            for text in texts:
                await _send(harness, text, text)
            assert list(await harness.person_sees(len(texts))) == texts

    async def test_the_same_key_twice_is_one_message(self, harness: ChannelHarness) -> None:
        if not harness.channel.capabilities.idempotent_send:
            pytest.skip("the channel does not declare idempotent_send")
        async with harness.channel.connected():
            await harness.go_online()
            first = await _send(harness, "once", "k1")
            again = await _send(harness, "once", "k1")
            await asyncio.gather(_send(harness, "twice", "k2"), _send(harness, "twice", "k2"))
            await _send(harness, "the end", "k3")
            assert list(await harness.person_sees(3)) == ["once", "twice", "the end"]
            assert first == again

    async def test_a_send_to_an_unreachable_chat_certainly_failed(self, harness: ChannelHarness) -> None:
        async with harness.channel.connected():
            await harness.go_online()
            await harness.go_offline()
            with pytest.raises(NotSent):
                await _send(harness, "hello?", "k1")
            await harness.go_online()
            await _send(harness, "hello?", "k1")
            assert list(await harness.person_sees(1)) == ["hello?"]

    async def test_a_long_text_split_at_the_declared_limit_arrives_complete_and_in_order(
        self, harness: ChannelHarness
    ) -> None:
        text = "\n\n".join(" ".join(f"{row}x{column}" for column in range(60)) for row in range(40))
        parts = _split_text(text, harness.channel.capabilities)
        async with harness.channel.connected():
            await harness.go_online()
            for number, part in enumerate(parts):
                await _send(harness, part.text, f"k{number}", plain=part.plain)
            seen = await harness.person_sees(len(parts))
        assert " ".join(seen).split() == text.split()

    async def test_a_text_of_the_declared_maximum_length_is_sent(self, harness: ChannelHarness) -> None:
        limit = harness.channel.capabilities.text_limit
        if limit is None:
            pytest.skip("the channel declares no limit")
        async with harness.channel.connected():
            await harness.go_online()
            await _send(harness, "x" * limit, "k1")
            assert list(await harness.person_sees(1)) == ["x" * limit]

    async def test_typing_is_not_a_message_and_delays_none(self, harness: ChannelHarness) -> None:
        channel = harness.channel
        if not isinstance(channel, ShowsTyping):
            pytest.skip("the channel does not show typing")
        async with channel.connected():
            await harness.go_online()
            async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
                await channel.typing(harness.address)
            await _send(harness, "the answer", "k1")
            assert list(await harness.person_sees(1)) == ["the answer"]

    @pytest.mark.parametrize("text", AWKWARD_TEXTS.values(), ids=AWKWARD_TEXTS.keys())
    async def test_an_awkward_text_is_sent_or_raises_a_channel_error(self, harness: ChannelHarness, text: str) -> None:
        async with harness.channel.connected():
            await harness.go_online()
            refused = 0
            try:
                await _send(harness, text, "k1")
            except ChannelError:
                refused = 1
            await _send(harness, "and on", "k2")
            seen = await harness.person_sees(2 - refused)
            assert seen[-1] == "and on"

    # Coming and going

    async def test_connected_can_be_entered_again(self, harness: ChannelHarness, inbox: SuiteInbox) -> None:
        for life in ("first", "second"):
            async with run_receive_loop(harness, inbox):
                await harness.person_writes(life, message_id=life)
                await inbox.wait_for_accepted(life)
                await _send(harness, f"answer to the {life}", life)
        assert list(await harness.person_sees(2)) == ["answer to the first", "answer to the second"]


def _split_text(text: str, capabilities: Capabilities) -> Sequence[MessagePart]:
    """As the host does it."""
    limits = Limits(
        max_length=capabilities.text_limit or len(text),
        unit=capabilities.text_unit,
        is_counted_after_parsing=capabilities.counted_after_parsing,
        max_entities=capabilities.entities,
    )
    return split_message(text, capabilities.form, limits)


async def _send(bench: ChannelHarness, text: str, key: str, *, plain: str | None = None) -> tuple[str, ...]:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        message = OutboundText(text=text, plain=plain)
        receipt = await bench.channel.send(bench.address, message, idempotency_key=key)
    return receipt.platform_message_ids


async def _wait_for_acknowledgement(bench: ChannelHarness, message_id: str) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while message_id not in bench.acknowledged():
            await bench.flush()
            await asyncio.sleep(0)
