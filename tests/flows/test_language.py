"""All that the host says in chats is in the language of the install, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nanohost.channel_api import Address, OutboundCard, OutboundFile, OutboundText, Receipt, Sender
from nanohost.config.settings import make_settings
from nanohost.db import roles
from nanohost.errors import SettingsError
from nanohost.model import Role, UnknownSender
from nanohost.testing.fake_channel import SentMessage
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S
from tests.support.flow import SCRIPTED_HOST_SETTINGS, RunningHost, Script, run_host
from tests.support.pseudo_language import OPENING, PSEUDO_LANGUAGE, english_words, pseudo, write_pseudo_language

OLGA, EVE, MALLORY = (Sender(handle=name.lower(), name=name) for name in ("Olga", "Eve", "Mallory"))
OFFICE = "dm-olga"
NAMES = frozenset({"main", "fake", "UTC", "nanohost", "dm", "olga", "Eve", "new", "nowhere", "terminal"}) | {
    *("qd", "Blue", "telegram", "channels", "list")
}
"""Names of agents, channels, chats and zones, a part of an id, what people typed, and words of commands."""
HOLDS = {"tasks.create": "hold"}
SCHEDULE = {"tool": "schedule_task", "arguments": {"prompt": "water the plants", "cron": "0 9 * * *"}}
COLOURS = {"question": "1?", "options": ["Red", "Blue"]}
SCRIPT: Script = [
    {"match": "^schedule", "actions": [SCHEDULE]},
    {"match": "^ask", "actions": [{"tool": "ask_user_question", "arguments": COLOURS, "answer": "so: {result}"}]},
    {"match": "^transient", "actions": [{"error": "transient"}]},
    {"match": "^auth", "actions": [{"error": "auth"}]},
    {"match": "^permanent", "actions": [{"error": "permanent"}]},
    {"match": "^budget", "actions": [{"error": "budget"}]},
    {"match": "^limited", "attempt": 1, "actions": [{"error": "rate_limited", "retry_in_s": 1}]},
    {"match": "^wait", "actions": [{"until_file": "go"}]},
]


class RecordingChannel(FullFeatureChannel):
    """Keeps each text that the host itself wrote, those of edited messages too."""

    def __init__(self) -> None:
        super().__init__()
        self.host_texts: list[str] = []
        self.labels: list[str] = []

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        self._record(message)
        return await super().send(address, message, idempotency_key=idempotency_key)

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        if address.platform_id == OFFICE:
            self.host_texts.append(card.text)
            self.labels += [one.label for one in card.buttons]
        return await super().send_card(address, card, idempotency_key=idempotency_key)

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        self.host_texts.append(message.text)
        await super().edit(address, message_id, message)

    async def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        await self._wait(happened, f"{what} in {self.host_texts}", HANG_TIMEOUT_S)

    def _record(self, message: OutboundText | OutboundFile) -> None:
        if isinstance(message, OutboundText) and not message.agent:
            self.host_texts.append(message.text)


@asynccontextmanager
async def translated_host(root: Path) -> AsyncIterator[tuple[RunningHost, RecordingChannel]]:
    """A host in the pseudo-language with an owner, who can be written to; leaving checks what it said."""
    write_pseudo_language(root / "locales")
    fake = RecordingChannel()
    settings = make_settings(host={**SCRIPTED_HOST_SETTINGS, "language": PSEUDO_LANGUAGE}, guard=HOLDS)
    async with run_host(root, fake=fake, settings=settings) as flow:
        async with flow.host.store.transaction() as tx:
            now = flow.host.clock.now()
            await roles.grant(tx, user_id="fake:olga", role=Role.OWNER, agent_group=None, now=now)
        yield flow, fake
    untranslated = {text: words for text in fake.host_texts if (words := english_words(text, known=NAMES))}
    assert untranslated == {}
    assert all(OPENING in text for text in fake.host_texts)
    assert [label for label in fake.labels if english_words(label, known=NAMES)] == []


async def seen(fake: RecordingChannel, found: Callable[[SentMessage], bool]) -> SentMessage:
    """The latest message that is like this, once there is one."""
    await fake.wait_until(lambda: any(map(found, fake.sent)), "a message")
    return [one for one in fake.sent if found(one)][-1]


async def said(fake: RecordingChannel, start: str) -> None:
    """Wait until the host has said something with this part of a sentence."""
    await fake.wait_until(lambda: any(_letters(start) in text for text in fake.host_texts), start)


def _letters(start: str) -> str:
    return pseudo(start)[1:-1]


async def asked(fake: RecordingChannel, text: str, answer: str, *, chat: str = OFFICE, sender: Sender = OLGA) -> None:
    """Write something, and wait for the host's answer."""
    await fake.person_writes(text, chat=chat, sender=sender)
    await said(fake, answer)


async def card_in(fake: RecordingChannel, chat: str, words: str = "") -> SentMessage:
    return await seen(fake, lambda one: one.address.platform_id == chat and bool(one.buttons) and words in one.text)


async def test_an_unknown_sender_their_card_and_its_outcome_are_in_the_language_of_the_install(tmp_path: Path) -> None:
    async with translated_host(tmp_path) as (flow, fake):
        await flow.wire(unknown=UnknownSender.REQUEST_APPROVAL)
        await fake.person_writes("may I?", sender=EVE)
        card = await card_in(fake, OFFICE)
        await said(fake, "I have asked whether I may talk with you")
        await fake.person_presses(card, card.buttons[0], sender=MALLORY)
        await said(fake, "This is not yours to decide")
        await fake.person_presses(card, card.buttons[0], sender=OLGA)
        await said(fake, "Approved")
        await seen(fake, lambda one: one.text == "echo: may I?")
        await fake.person_presses(card, card.buttons[1], sender=OLGA)
        await said(fake, " already by ")
        await fake.person_writes("and I?", sender=MALLORY)
        other = await card_in(fake, OFFICE, "mallory")
        await fake.person_presses(other, other.buttons[-1], sender=OLGA)
        await said(fake, "Denied")
        await fake.person_writes("what is this?", chat="new", sender=EVE)
        chat_card = await card_in(fake, OFFICE, "`new`")
        await fake.person_presses(chat_card, chat_card.buttons[0], sender=OLGA)
        await said(fake, "the agent ")


async def test_every_answer_to_a_command_is_in_the_language_of_the_install(tmp_path: Path) -> None:
    async with translated_host(tmp_path) as (flow, fake):
        await flow.wire(OFFICE, script=SCRIPT)
        for text, answer in (
            ("/help", "Write to me as you would to a person"),
            ("/status", "I am not doing anything"),
            ("/stop", "There is nothing to stop"),
            ("/clear", "This is a fresh conversation now"),
            ("/cost", "In the last 30 days"),
            ("/cost all", " takes no arguments"),
            ("/link", "Write this to me on the other platform"),
            ("/pair", "Whoever writes this to me on "),
            ("/pair nowhere", "no channel "),
            ("/approve", " needs "),
            ("/approve zzzzzz", "othing with the id "),
            ("/resume", "Nothing is paused"),
            ("/pause", "Paused: nothing is started"),
            ("/pause", "Everything is paused since "),
            ("hello", "Everything is paused at the moment"),
            ("/resume", "Resumed (paused since "),
        ):
            await asked(fake, text, answer)
        await fake.person_writes("ABCD-2345", chat="new", sender=EVE)
        await said(fake, "That code is wrong")


async def test_failed_turns_and_holds_are_told_in_the_language_of_the_install(tmp_path: Path) -> None:
    async with translated_host(tmp_path) as (flow, fake):
        await flow.wire(OFFICE, script=SCRIPT)
        for text, answer in (
            ("auth", "I cannot reach my model: its key"),
            ("permanent", "My model refuses this request"),
            ("budget", "The budget for this conversation"),
            ("limited", " I keep your message and try again in "),
        ):
            await asked(fake, text, answer)
        await seen(fake, lambda one: one.text == "echo: limited")
        await fake.person_writes("wait", chat=OFFICE, sender=OLGA)
        await asked(fake, "/stop", "Stopped")
        session = (await flow.session()).id
        await flow.run_command("sessions hold", session, reason="for a test")
        await asked(fake, "hello", "I am on hold and do not work right now")
        await flow.run_command("sessions release", session)
        await seen(fake, lambda one: one.text == "echo: hello")


async def test_a_request_of_an_agent_and_the_answer_to_a_question_are_in_the_language_of_the_install(
    tmp_path: Path,
) -> None:
    async with translated_host(tmp_path) as (flow, fake):
        await flow.wire(script=SCRIPT)
        for choice in (0, 1):
            await fake.person_writes(f"schedule {choice}")
            card = await card_in(fake, OFFICE)
            await fake.person_presses(card, card.buttons[-1 if choice else 0], sender=OLGA)
            await said(fake, " is told so" if choice else " may do it this once")
        await fake.person_writes("ask")
        question = await card_in(fake, "c1")
        await fake.person_presses(question, question.buttons[1], sender=EVE)
        await said(fake, "Answered by ")


async def test_a_host_with_a_language_that_has_no_file_does_not_start_and_says_which_there_are(tmp_path: Path) -> None:
    write_pseudo_language(tmp_path / "locales")
    settings = make_settings(host={**SCRIPTED_HOST_SETTINGS, "language": "xx"})
    with pytest.raises(SettingsError, match="there is no language 'xx'") as caught:
        async with run_host(tmp_path, fake=FullFeatureChannel(), settings=settings):
            pass
    assert caught.value.hint == "languages here: en, pseudo"
