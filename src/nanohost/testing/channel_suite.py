"""What every channel must do, as tests. A channel's author subclasses the suite and brings a bench:

    class TestMyChannel(ChannelSuite):
        @pytest.fixture
        async def bench(self, tmp_path: Path) -> AsyncIterator[ChannelBench]:
            async with MyPlatformOnLoopback() as platform:
                yield MyBench(platform, MyChannel(platform.url))

The bench stands for the platform and for one person on it who has one chat open with the bot: a loopback server that
speaks the platform's protocol, not a patched channel. Every wait of the suite ends after `HANG_S` seconds, those of a
bench should too. Needs pytest and pytest-asyncio; put
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
from nanohost.rendering import Limits, Part, split
from nanohost.testing.limits import HANG_S, seconds

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


class ChannelBench(ABC):
    """A channel, its platform, and a person there."""

    acknowledges = True
    """False for a platform that expects no acknowledgement (the suite then skips what it says about that)."""

    @property
    @abstractmethod
    def channel(self) -> Channel: ...

    @property
    @abstractmethod
    def address(self) -> Address:
        """The chat that the person has open."""

    @abstractmethod
    async def arrive(self) -> None:
        """The platform, and the person on it, can be reached. Called inside `connected`, perhaps more than once."""

    @abstractmethod
    async def leave(self) -> None:
        """From now on nothing can be sent: the platform refuses connections, or the person is gone."""

    @abstractmethod
    async def person_writes(self, text: str, *, message_id: str) -> None:
        """Put a message on the wire, and do not wait for what becomes of it.

        The same `message_id` once more is the platform delivering the same message once more.
        """

    @abstractmethod
    async def person_sees(self, count: int) -> Sequence[str]:
        """The texts on the person's screen, oldest first, once there are at least `count`."""

    @abstractmethod
    async def garbage(self) -> None:
        """Everything that the platform never should send: bytes that do not parse, wrong types, unknown events."""

    @abstractmethod
    def acknowledged(self) -> Sequence[str]:
        """The `message_id`s that the platform may forget, because the channel acknowledged them."""

    @abstractmethod
    async def settle(self) -> None:
        """Return when all that the channel has told the platform so far has arrived there."""


class SuiteInbox:
    """An inbox whose commit can be held up and can fail."""

    def __init__(self) -> None:
        self.entered: list[InboundEvent] = []
        """Handed in, committed or not."""
        self.accepted: list[InboundEvent] = []
        self.failures: list[tuple[str, str, str]] = []
        """Messages that the platform gave up on after it took them: key, id and reason."""
        self.moves: list[tuple[str, str]] = []
        """Chats that are called otherwise now."""
        self.reachings = 0
        """How often somebody could be reached anew."""
        self.failed = 0
        """How many commits failed."""
        self.saved: str | None = None
        """The checkpoint."""
        self._fails_next = False
        self._free = asyncio.Event()
        self._free.set()
        self._changed = asyncio.Condition()

    async def accept(self, event: InboundEvent) -> Accepted:
        async with self._changed:
            self.entered.append(event)
            self._changed.notify_all()
        await self._free.wait()
        if self._fails_next:
            await self._fail()
        async with self._changed:
            new = identity(event) not in [identity(earlier) for earlier in self.accepted]
            self.accepted.append(event)
            self._changed.notify_all()
        return Accepted(new=new)

    def reached(self) -> None:
        self.reachings += 1

    async def moved(self, old: str, new: str) -> None:
        async with self._changed:
            self.moves.append((old, new))
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
        self.saved = text

    async def checkpoint(self) -> str | None:
        return self.saved

    async def failed_later(self, key: str, platform_message_id: str, reason: str) -> None:
        await self._free.wait()
        async with self._changed:
            self.failures.append((key, platform_message_id, reason))
            self._changed.notify_all()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def fail_once(self) -> None:
        """The next commit fails, and those after it are held until `release`."""
        self._fails_next = True

    async def _fail(self) -> None:
        self._fails_next = False
        self.hold()
        async with self._changed:
            self.failed += 1
            self._changed.notify_all()
        raise OSError("the suite's inbox cannot commit now")

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait until `happened()`; looked at whenever an event is handed in or committed."""
        async with asyncio.timeout(seconds(HANG_S)), self._changed:
            await self._changed.wait_for(happened)

    async def until_accepted(self, text: str) -> InboundEvent:
        """The first committed event with this text, once there is one."""
        await self.until(lambda: any(event.text == text for event in self.accepted))
        return next(event for event in self.accepted if event.text == text)


def identity(event: InboundEvent) -> tuple[str, str, str]:
    """What names an event for ever, within one instance of a channel."""
    return event.platform_id, event.platform_message_id, event.kind


class Receiving:
    """`receive` as the host runs it: called again whenever it ends."""

    def __init__(self, channel: Channel, inbox: SuiteInbox) -> None:
        self.ended: list[Exception | None] = []
        """How each call ended: what it raised, or None when it returned."""
        self._channel = channel
        self._inbox = inbox

    async def run(self) -> None:
        while len(self.ended) < 100:
            try:
                await self._channel.receive(self._inbox)
            except Exception as error:
                self.ended.append(error)
            else:
                self.ended.append(None)
            await asyncio.sleep(0)


@asynccontextmanager
async def receiving(bench: ChannelBench, inbox: SuiteInbox) -> AsyncIterator[Receiving]:
    """The channel is connected and receives, and the person is there."""
    host = Receiving(bench.channel, inbox)
    async with bench.channel.connected():
        task = asyncio.create_task(host.run(), name="receive")
        try:
            await bench.arrive()
            yield host
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class ChannelSuite:
    """Subclass it, name the class Test…, and add the fixture `bench`. A `receive` that is cancelled must end."""

    pytestmark: ClassVar = pytest.mark.asyncio

    @pytest.fixture
    def bench(self) -> ChannelBench:
        raise NotImplementedError("override the fixture `bench` in your subclass")

    @pytest.fixture
    def inbox(self) -> SuiteInbox:
        return SuiteInbox()

    # What people write

    async def test_what_a_person_writes_is_handed_in_with_everything_the_host_needs(
        self, bench: ChannelBench, inbox: SuiteInbox
    ) -> None:
        async with receiving(bench, inbox):
            await bench.person_writes("good morning", message_id="1")
            event = await inbox.until_accepted("good morning")
        assert event.platform_id == bench.address.platform_id
        assert event.platform_message_id
        assert event.sender.handle
        assert event.sent_at.utcoffset() is not None, "times are aware"

    async def test_the_platform_hears_nothing_before_the_event_is_committed(
        self, bench: ChannelBench, inbox: SuiteInbox
    ) -> None:
        if not bench.acknowledges:
            pytest.skip("this platform expects no acknowledgement")
        inbox.hold()
        async with receiving(bench, inbox):
            await bench.person_writes("keep this", message_id="1")
            await inbox.until(lambda: len(inbox.entered) == 1)
            await bench.settle()
            assert list(bench.acknowledged()) == []
            inbox.release()
            await _until_acknowledged(bench, "1")

    async def test_an_event_that_could_not_be_committed_is_not_acknowledged(
        self, bench: ChannelBench, inbox: SuiteInbox
    ) -> None:
        if not bench.acknowledges:
            pytest.skip("this platform expects no acknowledgement")
        inbox.fail_once()
        async with receiving(bench, inbox):
            await bench.person_writes("keep this", message_id="1")
            await inbox.until(lambda: inbox.failed == 1)
            await bench.settle()
            assert list(bench.acknowledged()) == []
            inbox.release()
            await bench.person_writes("keep this", message_id="1")
            await inbox.until_accepted("keep this")
            await _until_acknowledged(bench, "1")

    async def test_the_same_event_twice_has_the_same_identity(self, bench: ChannelBench, inbox: SuiteInbox) -> None:
        async with receiving(bench, inbox):
            await bench.person_writes("once", message_id="1")
            await bench.person_writes("once", message_id="1")
            await bench.person_writes("the end", message_id="2")
            end = await inbox.until_accepted("the end")
        repeats = {identity(event) for event in inbox.accepted if event.text == "once"}
        assert len(repeats) == 1
        assert identity(end) not in repeats

    async def test_two_messages_with_the_same_words_are_two_events(
        self, bench: ChannelBench, inbox: SuiteInbox
    ) -> None:
        async with receiving(bench, inbox):
            await bench.person_writes("yes", message_id="1")
            await bench.person_writes("yes", message_id="2")
            await inbox.until(lambda: len({identity(event) for event in inbox.accepted}) == 2)

    async def test_order_within_a_chat_is_kept(self, bench: ChannelBench, inbox: SuiteInbox) -> None:
        texts = [f"line {number}" for number in range(30)]
        inbox.hold()
        async with receiving(bench, inbox):
            for text in texts:
                await bench.person_writes(text, message_id=text)
            await inbox.until(lambda: len(inbox.entered) >= 1)
            inbox.release()
            await inbox.until_accepted(texts[-1])
        assert [event.text for event in inbox.accepted] == texts

    @pytest.mark.parametrize("text", AWKWARD_TEXTS.values(), ids=AWKWARD_TEXTS.keys())
    async def test_an_awkward_text_from_a_person_does_not_break_the_channel(
        self, bench: ChannelBench, inbox: SuiteInbox, text: str
    ) -> None:
        async with receiving(bench, inbox) as host:
            await bench.person_writes(text, message_id="1")
            await bench.person_writes("still there?", message_id="2")
            await inbox.until_accepted("still there?")
            assert host.ended == []

    async def test_garbage_from_the_platform_does_not_end_receive(self, bench: ChannelBench, inbox: SuiteInbox) -> None:
        async with receiving(bench, inbox) as host:
            await bench.garbage()
            await bench.person_writes("still there?", message_id="1")
            await inbox.until_accepted("still there?")
            assert host.ended == []

    async def test_receive_can_be_cancelled_and_called_again(self, bench: ChannelBench, inbox: SuiteInbox) -> None:
        async with bench.channel.connected():
            await bench.arrive()
            for attempt in ("first", "second", "third"):
                task = asyncio.create_task(bench.channel.receive(inbox))
                await bench.person_writes(attempt, message_id=attempt)
                await inbox.until_accepted(attempt)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    # What is sent to people

    async def test_send_returns_a_receipt_and_the_person_sees_the_text_exactly(self, bench: ChannelBench) -> None:
        text = "Grüße, 世界!\n  two spaces, a tab\t, <b>, & and 😀"
        async with bench.channel.connected():
            await bench.arrive()
            receipt = await _send(bench, text, "k1")
            assert all(receipt)
            assert list(await bench.person_sees(1)) == [text]

    async def test_messages_arrive_in_the_order_they_are_sent(self, bench: ChannelBench) -> None:
        texts = [f"line {number}" for number in range(30)]
        async with bench.channel.connected():
            await bench.arrive()
            for text in texts:
                await _send(bench, text, text)
            assert list(await bench.person_sees(len(texts))) == texts

    async def test_the_same_key_twice_is_one_message(self, bench: ChannelBench) -> None:
        if not bench.channel.capabilities.idempotent_send:
            pytest.skip("the channel does not declare idempotent_send")
        async with bench.channel.connected():
            await bench.arrive()
            first = await _send(bench, "once", "k1")
            again = await _send(bench, "once", "k1")
            await asyncio.gather(_send(bench, "twice", "k2"), _send(bench, "twice", "k2"))
            await _send(bench, "the end", "k3")
            assert list(await bench.person_sees(3)) == ["once", "twice", "the end"]
            assert first == again

    async def test_a_message_that_nobody_can_get_is_surely_not_sent(self, bench: ChannelBench) -> None:
        async with bench.channel.connected():
            await bench.arrive()
            await bench.leave()
            with pytest.raises(NotSent):
                await _send(bench, "hello?", "k1")
            await bench.arrive()
            await _send(bench, "hello?", "k1")
            assert list(await bench.person_sees(1)) == ["hello?"]

    async def test_a_long_text_cut_as_the_channel_declares_arrives_complete_and_in_order(
        self, bench: ChannelBench
    ) -> None:
        text = "\n\n".join(" ".join(f"{row}x{column}" for column in range(60)) for row in range(40))
        parts = _cut(text, bench.channel.capabilities)
        async with bench.channel.connected():
            await bench.arrive()
            for number, part in enumerate(parts):
                await _send(bench, part.text, f"k{number}", plain=part.plain)
            seen = await bench.person_sees(len(parts))
        assert " ".join(seen).split() == text.split()

    async def test_a_text_as_long_as_the_channel_declares_is_sent(self, bench: ChannelBench) -> None:
        limit = bench.channel.capabilities.text_limit
        if limit is None:
            pytest.skip("the channel declares no limit")
        async with bench.channel.connected():
            await bench.arrive()
            await _send(bench, "x" * limit, "k1")
            assert list(await bench.person_sees(1)) == ["x" * limit]

    async def test_typing_is_no_message_and_keeps_none_waiting(self, bench: ChannelBench) -> None:
        channel = bench.channel
        if not isinstance(channel, ShowsTyping):
            pytest.skip("the channel does not show typing")
        async with channel.connected():
            await bench.arrive()
            async with asyncio.timeout(seconds(HANG_S)):
                await channel.typing(bench.address)
            await _send(bench, "the answer", "k1")
            assert list(await bench.person_sees(1)) == ["the answer"]

    @pytest.mark.parametrize("text", AWKWARD_TEXTS.values(), ids=AWKWARD_TEXTS.keys())
    async def test_an_awkward_text_is_sent_or_raises_a_channel_error(self, bench: ChannelBench, text: str) -> None:
        async with bench.channel.connected():
            await bench.arrive()
            refused = 0
            try:
                await _send(bench, text, "k1")
            except ChannelError:
                refused = 1
            await _send(bench, "and on", "k2")
            seen = await bench.person_sees(2 - refused)
            assert seen[-1] == "and on"

    # Coming and going

    async def test_connected_can_be_entered_again(self, bench: ChannelBench, inbox: SuiteInbox) -> None:
        for life in ("first", "second"):
            async with receiving(bench, inbox):
                await bench.person_writes(life, message_id=life)
                await inbox.until_accepted(life)
                await _send(bench, f"answer to the {life}", life)
        assert list(await bench.person_sees(2)) == ["answer to the first", "answer to the second"]


def _cut(text: str, capabilities: Capabilities) -> Sequence[Part]:
    """As the host does it."""
    limits = Limits(
        text=capabilities.text_limit or len(text),
        unit=capabilities.text_unit,
        counted_after_parsing=capabilities.counted_after_parsing,
        entities=capabilities.entities,
    )
    return split(text, capabilities.form, limits)


async def _send(bench: ChannelBench, text: str, key: str, *, plain: str | None = None) -> tuple[str, ...]:
    async with asyncio.timeout(seconds(HANG_S)):
        message = OutboundText(text=text, plain=plain)
        receipt = await bench.channel.send(bench.address, message, idempotency_key=key)
    return receipt.platform_message_ids


async def _until_acknowledged(bench: ChannelBench, message_id: str) -> None:
    async with asyncio.timeout(seconds(HANG_S)):
        while message_id not in bench.acknowledged():
            await bench.settle()
            await asyncio.sleep(0)
