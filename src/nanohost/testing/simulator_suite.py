"""What every channel of a platform must do, as tests over its simulator: the conformance suite and the abilities.

    class TestExample(SimulatorSuite):
        DM, GROUP, THREAD = "1001", "-500", "7"

        @pytest.fixture
        def simulator(self) -> Simulator:
            return ExampleSimulator()

        def create(self, context: ChannelContext) -> Channel:
            return create(context)

What a channel does not declare, or has no method for, is skipped. Every wait ends; nothing here is random.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar

import pytest

from nanohost.channel_api import (
    Address,
    Ambiguous,
    AuthFailed,
    Button,
    Channel,
    ChannelContext,
    ChannelError,
    Checks,
    Condition,
    Edits,
    EventKind,
    FetchesFiles,
    FindsSent,
    NotSent,
    OpensDms,
    OutboundCard,
    OutboundFile,
    OutboundText,
    RateLimited,
    Reacts,
    Receipt,
    Refused,
    SaysItsCondition,
    SendsCards,
    SendsFiles,
    ShowsTyping,
)
from nanohost.rendering import Limits, MessagePart, split_message
from nanohost.testing.channel_suite import ChannelHarness, ChannelSuite, SuiteInbox, run_receive_loop
from nanohost.testing.simulator import ADA, BOB, Fault, Person, Simulator, simulate_outage
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

FLUSH_WAIT_S = 0.05
"""What the channel told a platform on loopback has arrived by then."""
RECEIVE_RETRY_S = 0.1
"""Before `receive` is called again."""
CHOICES = ("Yes", "No")

LONG_ANSWER = "\n\n".join(
    [
        "# Report for @everyone <!channel> @here",
        "Intro w0001 with **bold, _nested and `code @everyone` unbalanced ** and <b>tags & entities &lt;",
        "- one w0002\n  - two w0003\n    - three **w0004**\n      1. four w0005\n- five w0006",
        "| name | value |\n|---|---|\n| w0007 | `x|y` |\n| w0008 | @everyone |",
        "```python\n" + "\n".join(f"print('w{number:04}', '<!channel>')" for number in range(9, 60)) + "\n```",
        "> quoted w0060\n> > deeper w0061",
        "```\n" + "\n".join(f"w{number:04} " + "plain code " * 6 for number in range(62, 110)) + "\n```",
        *(f"Paragraph w{number:04} " + "some ordinary words of an answer " * 5 for number in range(110, 142)),
        "~~struck w0142~~ [link w0143](https://example.com/a_(b)) ![image w0144](https://example.com/i.png)",
        "```js\n// w0145 ``` inside\nlet a = `w0146`;\n```",
        "the end w0147 <@1001> <@&5> @1001 [unbalanced(",
    ]
)
"""12,000 characters of everything; the words w0001 … w0147 tell whether all of it came, in order."""


class SimulatorHarness(ChannelHarness):
    """The bench of a simulator: Ada's DM with the bot. The suite's message ids become the platform's own here."""

    def __init__(self, simulator: Simulator, channel: Channel, *, chat: str) -> None:
        self.simulator = simulator
        self._channel = channel
        self._chat = chat
        self._ids: dict[str, str] = {}
        self._is_down = False

    @property
    def channel(self) -> Channel:
        return self._channel

    @property
    def address(self) -> Address:
        return Address(platform_id=self._chat)

    async def go_online(self) -> None:
        if self._is_down:
            self._is_down = False
            await self.simulator.end_outage()

    async def go_offline(self) -> None:
        self._is_down = True
        await self.simulator.start_outage()

    async def wait_until_listening(self) -> None:
        """Return when what people write now reaches the channel. For platforms that keep nothing for a bot that is not
        connected; others keep it until it is."""

    async def person_writes(self, text: str, *, message_id: str) -> None:
        await self.wait_until_listening()
        known = self._ids.get(message_id)
        self._ids[message_id] = await self.simulator.write(self._chat, text, message_id=known)

    async def person_sees(self, count: int) -> Sequence[str]:
        await self.simulator.wait_for_messages(count, self._chat)
        return self.simulator.texts(self._chat)

    async def send_garbage(self) -> None:
        await self.wait_until_listening()
        await self.simulator.send_garbage()

    def acknowledged(self) -> Sequence[str]:
        done = set(self.simulator.acknowledged())
        return [ours for ours, theirs in self._ids.items() if theirs in done]

    async def flush(self) -> None:
        await asyncio.sleep(FLUSH_WAIT_S)


@asynccontextmanager
async def run_channel(bench: ChannelHarness, inbox: SuiteInbox) -> AsyncIterator[None]:
    """The channel is connected and receives, called again after a pause whenever it ends."""

    async def serve() -> None:
        while True:
            with suppress(Exception):
                await bench.channel.receive(inbox)
            await asyncio.sleep(RECEIVE_RETRY_S)

    async with bench.channel.connected():
        task = asyncio.create_task(serve(), name="receive")
        try:
            await bench.go_online()
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class SimulatorSuite(ChannelSuite):
    """Subclass it, name the class Test…, say which chats there are, bring `simulator` and `create`."""

    DM: ClassVar[str]
    """The platform's id of Ada's chat with the bot."""
    GROUP: ClassVar[str | None] = None
    """The id of a group that the bot, Ada and Bob are in; None: the platform has no groups."""
    THREAD: ClassVar[str | None] = None
    """A thread in that group that people can write in; None: the platform has none."""
    CAN_PEOPLE_EDIT: ClassVar[bool] = True
    CAN_PEOPLE_REACT: ClassVar[bool] = True
    HAS_TYPING_IN_DM: ClassVar[bool] = True

    @pytest.fixture
    def simulator(self) -> Simulator:
        raise NotImplementedError("override the fixture `simulator` in your subclass")

    def create(self, context: ChannelContext) -> Channel:
        raise NotImplementedError("override `create` in your subclass")

    def make_harness(self, simulator: Simulator, channel: Channel) -> SimulatorHarness:
        """Override to bring a bench of your own."""
        return SimulatorHarness(simulator, channel, chat=self.DM)

    @pytest.fixture
    async def harness(self, simulator: Simulator, tmp_path: Path) -> AsyncIterator[SimulatorHarness]:
        async with simulator.running():
            context = ChannelContext(
                instance="default", settings=simulator.settings(), runtime_dir=tmp_path, home=tmp_path
            )
            yield self.make_harness(simulator, self.create(context))

    # What people write

    async def test_a_direct_message_has_its_sender_and_is_marked_as_direct(
        self, harness: SimulatorHarness, inbox: SuiteInbox
    ) -> None:
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("just us", message_id="1")
            event = await inbox.wait_for_accepted("just us")
        assert (event.is_group, event.sender.is_bot, event.sender.is_self) == (False, False, False)
        assert (event.sender.handle, event.sender.name) == (ADA.id, ADA.name)
        assert event.kind is EventKind.MESSAGE

    async def test_a_group_message_is_marked_if_it_addresses_the_bot(
        self, harness: SimulatorHarness, inbox: SuiteInbox
    ) -> None:
        group = self._require_group()
        async with run_receive_loop(harness, inbox):
            await harness.wait_until_listening()
            await harness.simulator.write(group, "chatter", person=BOB, group=True)
            await harness.simulator.write(group, "hey you", person=BOB, group=True, mention=True)
            await inbox.wait_until(lambda: len(inbox.accepted) >= 2)
        chatter, addressed = inbox.accepted[:2]
        assert (chatter.platform_id, chatter.is_group, chatter.mentions_bot) == (group, True, False)
        assert (addressed.is_group, addressed.mentions_bot, addressed.sender.handle) == (True, True, BOB.id)
        assert "hey you" in addressed.text

    async def test_a_thread_has_an_id_and_can_be_answered_in(
        self, harness: SimulatorHarness, inbox: SuiteInbox
    ) -> None:
        group = self._require_group()
        if self.THREAD is None or not harness.channel.capabilities.threads:
            pytest.skip("the platform has no threads")
        async with run_receive_loop(harness, inbox):
            await harness.wait_until_listening()
            await harness.simulator.write(group, "in a thread", group=True, mention=True, thread=self.THREAD)
            await inbox.wait_until(lambda: len(inbox.accepted) >= 1)
            event = inbox.accepted[0]
            assert (event.platform_id, event.thread_id) == (group, self.THREAD)
            await send_text(harness.channel, Address(platform_id=group, thread_id=event.thread_id), "answer", "k1")
            [shown] = await harness.simulator.wait_for_messages(1, group)
        assert shown.thread == self.THREAD

    async def test_other_bots_are_marked_and_own_messages_are_not_received_as_a_persons(
        self, harness: SimulatorHarness, inbox: SuiteInbox
    ) -> None:
        chat = self.GROUP or self.DM
        async with run_receive_loop(harness, inbox):
            await harness.wait_until_listening()
            await send_text(harness.channel, Address(platform_id=chat), "I am the bot", "k1")
            robot = Person(id="1099", name="Robot", is_bot=True)
            await harness.simulator.write(chat, "I am another bot", person=robot, group=self.GROUP is not None)
            await harness.person_writes("the end", message_id="1")
            await inbox.wait_for_accepted("the end")
        for event in inbox.accepted:
            assert not event.text.startswith("I am the bot") or event.sender.is_self
            assert not event.text.startswith("I am another") or event.sender.is_bot

    async def test_a_persons_edit_refers_to_its_message_and_each_edit_is_an_event(
        self, harness: SimulatorHarness, inbox: SuiteInbox
    ) -> None:
        if not self.CAN_PEOPLE_EDIT:
            pytest.skip("people cannot edit here, or nobody is told")
        async with run_receive_loop(harness, inbox):
            await harness.wait_until_listening()
            written = await harness.simulator.write(self.DM, "teh")
            original = await inbox.wait_for_accepted("teh")
            for text in ("the", "then"):
                await harness.simulator.edit(written, text, chat=self.DM)
                await inbox.wait_for_accepted(text)
        edits = [event for event in inbox.accepted if event.kind is EventKind.EDIT]
        assert [event.text for event in edits] == ["the", "then"]
        assert {event.refers_to for event in edits} == {original.platform_message_id}
        assert len({event.platform_message_id for event in edits}) == 2

    async def test_a_persons_reaction_refers_to_its_message(self, harness: SimulatorHarness, inbox: SuiteInbox) -> None:
        if not self.CAN_PEOPLE_REACT:
            pytest.skip("people cannot react here, or nobody is told")
        async with run_receive_loop(harness, inbox):
            await harness.wait_until_listening()
            written = await harness.simulator.write(self.DM, "look")
            original = await inbox.wait_for_accepted("look")
            await harness.simulator.react(written, "👍", chat=self.DM)
            await inbox.wait_until(lambda: any(event.kind is EventKind.REACTION for event in inbox.accepted))
        [reaction] = [event for event in inbox.accepted if event.kind is EventKind.REACTION]
        assert (reaction.refers_to, reaction.platform_id) == (original.platform_message_id, self.DM)
        assert reaction.sender.handle == ADA.id
        assert "👍" in reaction.text

    async def test_a_persons_reaction_is_shown_until_they_remove_it(self, harness: SimulatorHarness) -> None:
        people = harness.simulator
        async with harness.channel.connected():
            await harness.go_online()
            written = await people.write(self.DM, "is it done?")
            await people.react(written, "🎉", chat=self.DM)
            await people.react(written, "👍", chat=self.DM, person=BOB)
            assert [one.reactions for one in people.screen(self.DM, sender=None)] == [("🎉", "👍")]
            await people.remove_reaction(written, "👍", chat=self.DM, person=BOB)
            assert [one.reactions for one in people.screen(self.DM, sender=None)] == [("🎉",)]

    async def test_a_file_comes_with_its_message_and_can_be_fetched(
        self, harness: SimulatorHarness, inbox: SuiteInbox, tmp_path: Path
    ) -> None:
        channel = harness.channel
        if not isinstance(channel, FetchesFiles):
            pytest.skip("the channel does not fetch files")
        content = bytes(range(256)) * 40
        async with run_receive_loop(harness, inbox):
            await harness.wait_until_listening()
            await harness.simulator.write(self.DM, "see this", file=("notes.bin", content))
            await inbox.wait_until(lambda: len(inbox.accepted) >= 1)
            event = inbox.accepted[0]
            [attachment] = event.attachments
            assert (event.text, attachment.name) == ("see this", "notes.bin")
            into = _empty_file(tmp_path / "fetched")
            await channel.fetch(attachment, into, most_bytes=len(content))
            assert into.read_bytes() == content
            with pytest.raises(Refused):
                await channel.fetch(attachment, _empty_file(tmp_path / "too large"), most_bytes=len(content) - 1)

    # What is sent to people

    async def test_send_returns_a_receipt_and_the_person_sees_the_text_exactly(self, harness: ChannelHarness) -> None:
        """In the platform's form, so that whitespace is its own affair; every word and character is not."""
        text = "Grüße, 世界!\n  two spaces, a tab\t, <b>, & and 😀 *_ [x] &amp; a_b_c"
        async with harness.channel.connected():
            await harness.go_online()
            assert all((await send_text(harness.channel, harness.address, text, "k1")).platform_message_ids)
            [seen] = await harness.person_sees(1)
        assert _split_words(seen) == _split_words(text.replace("&amp;", "&"))

    @pytest.mark.parametrize(
        ("fault", "raised", "copies"),
        [
            (Fault.RESET_BEFORE, (NotSent, Ambiguous), 0),
            (Fault.RESET_AFTER, (Ambiguous,), 1),
            (Fault.SERVER_ERROR, (NotSent, Ambiguous), 0),
            (Fault.UNAVAILABLE, (NotSent, Ambiguous), 0),
            (Fault.UNAUTHORIZED, (AuthFailed,), 0),
            (Fault.NOT_JSON, (NotSent, Ambiguous), 0),
        ],
    )
    async def test_each_fault_raises_its_error_and_the_next_send_works(
        self, harness: SimulatorHarness, fault: Fault, raised: tuple[type[ChannelError], ...], copies: int
    ) -> None:
        async with harness.channel.connected():
            await harness.go_online()
            await send_text(harness.channel, harness.address, "before", "k0")
            harness.simulator.faults.queue.append(fault)
            told = False
            try:
                await send_text(harness.channel, harness.address, "during", "k1")
            except raised as error:
                _assert_no_secret(error, harness.simulator)
                told = error.server_error
            else:
                assert fault is Fault.RESET_AFTER, f"{fault} passed for sent"
                assert copies == 1
            assert not harness.simulator.faults.queue, "the fault befell nothing"
            assert told or fault not in (Fault.SERVER_ERROR, Fault.UNAVAILABLE), "whose failure is it?"
            await send_text(harness.channel, harness.address, "after", "k2")
            await harness.simulator.wait_for_messages(2 + copies, self.DM)
            assert _split_words(*harness.simulator.texts(self.DM)) == ["before", *["during"] * copies, "after"]

    async def test_a_send_that_hangs_can_be_cancelled(self, harness: SimulatorHarness) -> None:
        async with harness.channel.connected():
            await harness.go_online()
            harness.simulator.faults.queue.append(Fault.HANG)
            with pytest.raises((TimeoutError, ChannelError)):
                async with asyncio.timeout(scaled_timeout(1.0)):
                    await send_text(harness.channel, harness.address, "hello?", "k1")
            await send_text(harness.channel, harness.address, "after", "k2")
            assert _split_words(*await harness.person_sees(1)) == ["after"]

    async def test_a_send_repeated_after_a_lost_response_is_one_message_where_the_platform_can_tell(
        self, harness: SimulatorHarness
    ) -> None:
        channel = harness.channel
        if not channel.capabilities.idempotent_send and not isinstance(channel, FindsSent):
            pytest.skip("the platform cannot tell a repeat")
        async with channel.connected():
            await harness.go_online()
            harness.simulator.faults.queue.append(Fault.RESET_AFTER)
            with suppress(Ambiguous):
                await send_text(channel, harness.address, "once", "k1")
            if isinstance(channel, FindsSent):
                found = await channel.find_sent(harness.address, idempotency_key="k1")
                assert found is not None
                assert found.platform_message_ids
                assert await channel.find_sent(harness.address, idempotency_key="another") is None
            else:
                await send_text(channel, harness.address, "once", "k1")
            await send_text(channel, harness.address, "the end", "k2")
            await harness.person_sees(2)
            assert harness.simulator.texts(self.DM) == ["once", "the end"]

    async def test_a_rate_limit_says_how_long_to_wait_in_that_chat(self, harness: SimulatorHarness) -> None:
        async with harness.channel.connected():
            await harness.go_online()
            harness.simulator.faults.limits[self.DM] = (1, 7.0)
            with pytest.raises(RateLimited) as limited:
                await send_text(harness.channel, harness.address, "patience", "k1")
            assert limited.value.retry_after_s == pytest.approx(7.0, abs=1.0)
            assert not limited.value.whole_channel
            await send_text(harness.channel, harness.address, "patience", "k1")
            assert _split_words(*await harness.person_sees(1)) == ["patience"]

    async def test_a_long_mixed_answer_arrives_complete_in_order_and_pings_nobody(
        self, harness: SimulatorHarness
    ) -> None:
        parts = render_parts(LONG_ANSWER, harness.channel)
        async with harness.channel.connected():
            await harness.go_online()
            for number, part in enumerate(parts):
                message = OutboundText(text=part.text, plain=part.plain)
                await harness.channel.send(harness.address, message, idempotency_key=f"k{number}")
            await harness.simulator.wait_for_messages(len(parts), self.DM)
            shown = harness.simulator.screen(self.DM)
        text = "\n".join(one.text for one in shown)
        places = [text.find(f"w{number:04}") for number in range(1, 148)]
        assert -1 not in places, f"w{places.index(-1) + 1:04} is missing"
        assert places == sorted(places)
        assert frozenset().union(*(one.notified for one in shown)) == frozenset()

    async def test_typing_is_shown_in_the_chat(self, harness: SimulatorHarness) -> None:
        channel = harness.channel
        if not isinstance(channel, ShowsTyping):
            pytest.skip("the channel does not show typing")
        async with run_receive_loop(harness, inbox := SuiteInbox()):
            await harness.person_writes("hello", message_id="1")
            event = await inbox.wait_for_accepted("hello")
            where = Address(platform_id=event.platform_id, thread_id=event.thread_id)
            await channel.typing(where)
            if self.HAS_TYPING_IN_DM:
                await harness.simulator.wait_until(lambda: self.DM in harness.simulator.typing)

    # Cards, files, edits, reactions

    async def test_a_card_shows_its_buttons_and_a_press_has_its_user_and_choice(
        self, harness: SimulatorHarness, inbox: SuiteInbox
    ) -> None:
        channel = harness.channel
        if not isinstance(channel, SendsCards):
            pytest.skip("the channel sends no cards")
        values = [f"q:{'a' * 28}:{number}" for number in range(len(CHOICES))]
        buttons = tuple(Button(label=label, value=value) for label, value in zip(CHOICES, values, strict=True))
        async with run_receive_loop(harness, inbox):
            await harness.wait_until_listening()
            receipt = await self._send_card(channel, harness, buttons, "k1")
            [shown] = await harness.simulator.wait_for_messages(1, self.DM)
            assert (shown.buttons, shown.text.strip()) == (CHOICES, "Shall we?")
            await harness.simulator.press(shown, "No")
            await inbox.wait_until(lambda: any(event.kind is EventKind.CLICK for event in inbox.accepted))
        [click] = [event for event in inbox.accepted if event.kind is EventKind.CLICK]
        assert (click.text, click.value, click.platform_id) == ("No", values[1], self.DM)
        assert click.refers_to in receipt.platform_message_ids
        assert click.sender.handle == ADA.id

    async def test_a_card_with_buttons_at_the_declared_limits_is_accepted(self, harness: SimulatorHarness) -> None:
        channel = harness.channel
        if not isinstance(channel, SendsCards):
            pytest.skip("the channel sends no cards")
        can = channel.capabilities
        assert can.buttons > 0
        buttons = tuple(
            Button(label=f"{number:02}".ljust(can.button_label, "x"), value=f"q:{number:030}")
            for number in range(min(can.buttons, 25))
        )
        async with channel.connected():
            await harness.go_online()
            await self._send_card(channel, harness, buttons, "k1")
            [shown] = await harness.simulator.wait_for_messages(1, self.DM)
        assert shown.buttons == tuple(button.label for button in buttons)

    async def test_a_file_arrives_complete_with_its_name_and_caption(
        self, harness: SimulatorHarness, tmp_path: Path
    ) -> None:
        channel = harness.channel
        if not isinstance(channel, SendsFiles):
            pytest.skip("the channel sends no files")
        for number, (name, media_type) in enumerate([("notes.txt", "text/plain"), ("pixel.png", "image/png")]):
            path = tmp_path / name
            path.write_bytes(f"{name} ".encode() * 500)
            words = render_parts(f"about {name}", channel)[0]
            file = OutboundFile(
                name=name,
                media_type=media_type,
                size=path.stat().st_size,
                content=path,
                text=words.text,
                plain=words.plain,
            )
            async with channel.connected():
                await harness.go_online()
                async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
                    await channel.send_file(harness.address, file, idempotency_key=f"k{number}")
                await harness.simulator.wait_for_messages(number + 1, self.DM)
            shown = harness.simulator.screen(self.DM)[-1]
            assert (shown.file_name, shown.file_bytes) == (name, path.read_bytes())
            assert f"about {name}" in shown.text

    async def test_an_own_message_can_be_edited_repeatedly(self, harness: SimulatorHarness) -> None:
        channel = harness.channel
        if not isinstance(channel, Edits):
            pytest.skip("the channel edits nothing")
        async with channel.connected():
            await harness.go_online()
            [id] = (await send_text(channel, harness.address, "working", "k1")).platform_message_ids
            for text in ("half way", "done", "done"):
                part = render_parts(text, channel)[0]
                await channel.edit(harness.address, id, OutboundText(text=part.text, plain=part.plain))
            await harness.simulator.wait_until(lambda: harness.simulator.texts(self.DM) == ["done"])
            with pytest.raises(Refused):
                await channel.edit(harness.address, self._unknown_message_id(id), OutboundText(text="x", plain="x"))

    async def test_an_edit_removes_the_buttons(self, harness: SimulatorHarness) -> None:
        channel = harness.channel
        if not isinstance(channel, Edits) or not isinstance(channel, SendsCards):
            pytest.skip("the channel has no cards, or edits nothing")
        async with channel.connected():
            await harness.go_online()
            buttons = (Button(label="Yes", value="q:1"),)
            [id] = (await self._send_card(channel, harness, buttons, "k1")).platform_message_ids
            await channel.edit(harness.address, id, OutboundText(text="Yes it is", plain="Yes it is"))
            await harness.simulator.wait_until(lambda: harness.simulator.texts(self.DM) == ["Yes it is"])
            assert harness.simulator.screen(self.DM)[0].buttons == ()

    async def test_setting_a_reaction_twice_is_harmless(self, harness: SimulatorHarness, inbox: SuiteInbox) -> None:
        channel = harness.channel
        if not isinstance(channel, Reacts):
            pytest.skip("the channel does not react")
        can = channel.capabilities.reactions
        emoji = "👍" if can is None or "👍" in can else sorted(can)[0]
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("nice?", message_id="1")
            event = await inbox.wait_for_accepted("nice?")
            for _ in range(2):
                await channel.react(harness.address, event.platform_message_id, emoji)
            [shown] = harness.simulator.screen(self.DM, sender=None)
            assert len(shown.reactions) == 1

    # The rest

    async def test_no_redelivered_event_is_lost_in_an_outage(
        self, harness: SimulatorHarness, inbox: SuiteInbox
    ) -> None:
        async with run_channel(harness, inbox):
            await harness.person_writes("before", message_id="1")
            await inbox.wait_for_accepted("before")
            async with simulate_outage(harness.simulator):
                await harness.simulator.write(self.DM, "during")
                await asyncio.sleep(0.3)
            await harness.wait_until_listening()
            await harness.person_writes("after", message_id="3")
            for text in ("during", "after"):
                await inbox.wait_for_accepted(text)
            await send_text(harness.channel, harness.address, "welcome back", "k1")
        first = list(dict.fromkeys(event.text for event in inbox.accepted))
        assert first == ["before", "during", "after"]

    async def test_a_dm_can_be_opened(self, harness: SimulatorHarness, inbox: SuiteInbox) -> None:
        channel = harness.channel
        if not isinstance(channel, OpensDms):
            pytest.skip("the channel opens no DMs")
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("hello", message_id="1")
            event = await inbox.wait_for_accepted("hello")
            where = await channel.open_dm(event.sender.handle)
            await send_text(channel, where, "to you alone", "k1")
            assert _split_words(*await harness.person_sees(1)) == ["to", "you", "alone"]

    async def test_the_settings_can_be_checked(self, harness: SimulatorHarness) -> None:
        channel = harness.channel
        if not isinstance(channel, Checks):
            pytest.skip("the channel cannot be checked")
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            said = await channel.check()
        assert said.strip()
        _assert_no_secret(said, harness.simulator)
        await harness.simulator.start_outage()
        with pytest.raises(ChannelError) as raised:
            async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
                await channel.check()
        _assert_no_secret(raised.value, harness.simulator)
        await harness.simulator.end_outage()

    async def test_the_condition_is_up_while_connected(self, harness: SimulatorHarness, inbox: SuiteInbox) -> None:
        channel = harness.channel
        if not isinstance(channel, SaysItsCondition):
            pytest.skip("the channel does not say how it is")
        async with run_receive_loop(harness, inbox):
            await harness.person_writes("hello", message_id="1")
            await inbox.wait_for_accepted("hello")
            assert channel.condition()[0] is Condition.UP

    # Helpers

    def _require_group(self) -> str:
        if self.GROUP is None:
            pytest.skip("the platform has no groups")
        return self.GROUP

    def _unknown_message_id(self, message_id: str) -> str:
        """The id of no message, in the platform's own shape. Override where digits do not do."""
        return message_id[:-3] + "".join("0" if char != "0" else "1" for char in message_id[-3:])

    async def _send_card(
        self, channel: SendsCards, bench: SimulatorHarness, buttons: tuple[Button, ...], key: str
    ) -> Receipt:
        [words] = render_parts("Shall we?", bench.channel)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            card = OutboundCard(text=words.text, plain=words.plain, buttons=buttons)
            return await channel.send_card(bench.address, card, idempotency_key=key)


def render_parts(markdown: str, channel: Channel) -> Sequence[MessagePart]:
    """In the channel's form, cut as it declares: as the host does it."""
    can = channel.capabilities
    limits = Limits(
        max_length=can.text_limit or 2**31,
        unit=can.text_unit,
        is_counted_after_parsing=can.counted_after_parsing,
        max_entities=can.entities,
    )
    return split_message(markdown, can.form, limits)


async def send_text(channel: Channel, address: Address, markdown: str, key: str) -> Receipt:
    """Send a text of one part, in the channel's form."""
    [part] = render_parts(markdown, channel)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        return await channel.send(address, OutboundText(text=part.text, plain=part.plain), idempotency_key=key)


def _empty_file(path: Path) -> Path:
    path.touch()
    return path


def _split_words(*texts: str) -> list[str]:
    """Without what only keeps a platform from reading markup."""
    return " ".join(texts).replace("\u200b", "").replace("\u2060", "").split()


def _assert_no_secret(said: object, simulator: Simulator) -> None:
    for key, value in simulator.settings().items():
        if any(word in key for word in ("token", "secret", "key", "password")):
            assert value not in str(said), f"{key} is shown"
