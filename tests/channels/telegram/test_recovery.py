"""Telegram fails in every known way, and the bot keeps receiving; nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from nanohost.channel_api import Accepted, ChannelError, Condition, InboundEvent
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import ADA, Fault, simulate_outage
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

from .bench import GROUP, MAX_PAUSE_S, make_bot, run_another_bot, run_bot

TOO_MANY = '{"ok": false, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": 0.05}}'
BROKEN = {
    "429": (429, TOO_MANY),
    "500": (500, '{"ok": false, "error_code": 500, "description": "Internal Server Error"}'),
    "502 and a page": (502, "<html>bad gateway</html>"),
    "bad JSON": (200, '{"ok": true, "result": ['),
    "no JSON": (200, "<html>hello</html>"),
    "an empty body": (200, ""),
    "a list": (200, "[]"),
    "no result": (200, '{"ok": true}'),
    "a result that is no list": (200, '{"ok": true, "result": {"update_id": 1}}'),
    "deep": (200, "[" * 100_000),
}


@pytest.mark.behaviour("IN-02")
@pytest.mark.parametrize("fault", list(Fault))
async def test_a_failed_poll_is_repeated_without_losing_updates(fault: Fault) -> None:
    telegram = TelegramSimulator()
    telegram.poll_faults.extend([fault] * (1 if fault is Fault.HANG else 3))
    async with run_bot(telegram) as here:
        await telegram.write(ADA.id, "are you there?")
        await here.inbox.wait_for_accepted("are you there?")
        await telegram.wait_until(lambda: len(telegram.acknowledged()) == 1)
        assert here.channel.condition() == (Condition.UP, "")
    assert len(here.inbox.accepted) == 1


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
async def test_an_invalid_response_is_requested_again(
    answer: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    telegram = TelegramSimulator()
    telegram.poll_answers.extend([answer] * 3)
    with capture_logs() as lines:
        async with run_bot(telegram) as here:
            await telegram.write(ADA.id, "are you there?")
            await here.inbox.wait_for_accepted("are you there?")
    assert "Traceback" not in caplog.text
    assert [line["event"] for line in lines] == ["telegram_condition_changed"], "said once, not at each poll"
    assert len(str(lines)) < 1000


async def test_a_rejected_token_is_reported_and_works_once_accepted() -> None:
    telegram = TelegramSimulator()
    telegram.revoked = True
    async with run_bot(telegram) as here:
        await telegram.write(ADA.id, "are you there?")
        await _until(here.channel.condition, Condition.AUTH_FAILED)
        assert "@BotFather" in here.channel.condition()[1]
        with pytest.raises(ChannelError, match="BotFather") as raised:
            await here.channel.check()
        assert telegram.token not in str(raised.value) + here.channel.condition()[1]
        telegram.revoked = False
        await here.inbox.wait_for_accepted("are you there?")
        assert here.channel.condition() == (Condition.UP, "")


async def test_a_second_host_with_the_same_token_is_reported_as_a_conflict() -> None:
    telegram = TelegramSimulator()
    async with run_bot(telegram) as here:
        await telegram.write(ADA.id, "one")
        await here.inbox.wait_for_accepted("one")
        async with run_another_bot(telegram):
            await _until(here.channel.condition, Condition.CONFLICT)
            assert "the same token" in here.channel.condition()[1]
        await telegram.write(ADA.id, "two")
        await telegram.wait_until(lambda: len(telegram.acknowledged()) == 2)
        await _until(here.channel.condition, Condition.UP)


async def test_a_webhook_is_reported_with_what_to_do() -> None:
    telegram = TelegramSimulator()
    telegram.webhook = "https://example.com/hook"
    async with run_bot(telegram) as here:
        await _until(here.channel.condition, Condition.CONFLICT)
        assert "deleteWebhook" in here.channel.condition()[1]
        with pytest.raises(ChannelError, match="deleteWebhook"):
            await here.channel.check()


async def test_the_bot_can_start_during_an_outage_and_reports_it() -> None:
    telegram = TelegramSimulator()
    async with run_bot(telegram) as here:
        async with simulate_outage(telegram):
            await telegram.write(ADA.id, "during the outage")
            await _until(here.channel.condition, Condition.DOWN)
        await here.inbox.wait_for_accepted("during the outage")
        assert here.channel.condition() == (Condition.UP, "")


async def test_after_an_outage_the_condition_is_up_again_before_anybody_writes() -> None:
    async with run_bot() as here:
        await _until(here.channel.condition, Condition.UP)
        await here.telegram.start_outage()
        await _until(here.channel.condition, Condition.DOWN)
        assert here.channel.condition()[1].startswith("Telegram")
        await here.telegram.end_outage()
        await _until(here.channel.condition, Condition.UP)


async def test_pauses_between_failures_grow() -> None:
    """No busy loop: twenty polls take at least the time of ten longest pauses."""
    telegram = TelegramSimulator()
    telegram.poll_answers.extend([(500, "")] * 10_000)
    began = asyncio.get_running_loop().time()
    async with run_bot(telegram):
        await telegram.wait_until(lambda: telegram.polls >= 20)
    assert asyncio.get_running_loop().time() - began > 10 * MAX_PAUSE_S


@pytest.mark.behaviour("IN-01")
async def test_an_update_is_confirmed_only_after_every_one_before_it_was_accepted() -> None:
    """A second bot with an empty memory receives everything that the first had not accepted."""
    telegram, inbox = TelegramSimulator(), SuiteInbox()
    async with telegram.running():
        for number in range(5):
            await telegram.write(ADA.id, f"to the bot {number}")
            await telegram.write(GROUP, f"to the group {number}", group=True)
        await _receive_until_one_cannot_be_committed(telegram, inbox)
        assert telegram.acknowledged() == []
        async with run_another_bot(telegram) as here:
            await here.inbox.wait_until(lambda: len(here.inbox.accepted) == 10)
    for chat in (ADA.id, GROUP):
        texts = [event.text for event in here.inbox.accepted if event.platform_id == chat]
        assert [text[-1] for text in texts] == list("01234")


async def test_a_backlog_arrives_in_order_and_the_token_is_in_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    telegram = TelegramSimulator()
    texts = [f"line {number}" for number in range(250)]
    for text in texts:
        await telegram.write(ADA.id, text)
    async with run_bot(telegram) as here:
        await here.inbox.wait_for_accepted(texts[-1])
        await telegram.wait_until(lambda: len(telegram.acknowledged()) == len(texts))
    assert [event.text for event in here.inbox.accepted] == texts
    assert telegram.token not in caplog.text


@pytest.mark.behaviour("IN-01")
async def test_invalid_names_do_not_block_later_updates() -> None:
    telegram = TelegramSimulator()
    async with run_bot(telegram) as here:
        await telegram.push({"message": _BY_A_NUMBER})
        await telegram.push({"message": _BY_A_NUMBER | {"chat": None, "migrate_to_chat_id": -8}})
        await telegram.write(ADA.id, "after it")
        await here.inbox.wait_for_accepted("after it")
        await telegram.wait_until(lambda: telegram.acknowledged() == [telegram.latest()])
    assert [event.text for event in here.inbox.accepted] == ["hi", "after it"]


_BY_A_NUMBER = {
    "message_id": 5,
    "date": 1_790_000_000,
    "chat": {"id": -7, "type": "supergroup", "title": 7},
    "from": {"id": 1001, "is_bot": False, "first_name": 7},
    "text": "hi",
}


@pytest.mark.behaviour("IN-07")
async def test_a_chat_with_a_slow_commit_does_not_delay_another() -> None:
    class OneChatHangs(SuiteInbox):
        async def accept(self, event: InboundEvent) -> Accepted:
            if event.platform_id == GROUP:
                await asyncio.Event().wait()
            return await super().accept(event)

    telegram, inbox = TelegramSimulator(), OneChatHangs()
    async with telegram.running():
        await telegram.write(GROUP, "hangs", group=True)
        await telegram.write(ADA.id, "goes on")
        async with run_another_bot(telegram, inbox):
            await inbox.wait_for_accepted("goes on")


async def _until(condition: Callable[[], tuple[Condition, str]], wanted: Condition) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            if condition()[0] is wanted:
                return
            await asyncio.sleep(0.01)


async def _receive_until_one_cannot_be_committed(telegram: TelegramSimulator, inbox: SuiteInbox) -> None:
    inbox.fail_once()
    channel = make_bot(telegram)
    async with channel.connected(), asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        with pytest.raises(OSError, match="cannot commit"):
            await channel.receive(inbox)
