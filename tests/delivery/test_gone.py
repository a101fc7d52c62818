"""Messages to a chat that has moved, or to a deleted thread."""

from __future__ import annotations

import asyncio

import pytest

from nanohost.channel_api import Ambiguous, ChannelError, ChatMoved, ThreadGone
from nanohost.db import deliveries
from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.events import ChatKey
from nanohost.delivery.kind_handlers import THREAD_GONE_NOTE
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.delivery.test_parts import FAKE, LONG, Bench, bench, fake, words

__all__ = ["bench", "fake"]


@pytest.mark.behaviour("RT-12")
@pytest.mark.parametrize("part", [1, 3])
async def test_the_rest_of_a_message_follows_a_moved_chat_at_once_and_in_order(bench: Bench, part: int) -> None:
    bench.fake.errors_by_attempt = {part: ChatMoved("x", to="c9")}
    await bench.enter(LONG, 1)
    await bench.enter("and then", 3)
    await bench.settled(3)
    *parts, last = bench.texts()
    assert (words(*parts), last) == (words(LONG), "and then")
    assert [len(bench.texts("c1")), bench.texts("c9")[-1]] == [part - 1, "and then"]
    assert {one.reply_to for one in bench.fake.sent if one.address.platform_id == "c9"} == {None}


@pytest.mark.behaviour("RT-12")
async def test_a_chat_reported_as_moved_to_itself_fails_with_the_reason(bench: Bench) -> None:
    bench.fake.errors_by_attempt = {number: ChatMoved("moved away", to="c1") for number in range(1, 7)}
    await bench.enter("hello", 1)
    dead = await bench.settled(1, DeliveryStatus.DEAD)
    assert (dead.reason, bench.fake.attempts.total()) == ("moved: moved away", 6)


@pytest.mark.behaviour("DL-13")
async def test_a_long_answer_to_a_deleted_thread_goes_to_the_chat_with_an_explanation_first(bench: Bench) -> None:
    bench.fake.errors_by_attempt = {1: ThreadGone("x")}
    await bench.enter(LONG, 1, thread="t1")
    await bench.enter("and then", 3, thread="t1")
    await bench.enter("elsewhere", 5, thread="t2")
    await bench.settled(5)
    *parts, last, elsewhere = bench.texts()
    assert words(*parts) == words(THREAD_GONE_NOTE, LONG)
    assert (last, elsewhere) == (f"{THREAD_GONE_NOTE}\n\nand then", "elsewhere")
    assert [one.address.thread_id for one in bench.fake.sent] == [None] * (len(parts) + 1) + ["t2"]
    assert {one.reply_to for one in bench.fake.sent[:-1]} == {None}
    assert sorted(bench.fake.attempts.values())[-1] == 2, "one try too many in all, for the first of them"


@pytest.mark.behaviour("DL-13")
async def test_an_answer_whose_thread_is_deleted_midway_is_not_restarted(bench: Bench) -> None:
    bench.fake.errors_by_attempt = {3: ThreadGone("x")}
    await bench.enter(LONG, 1, thread="t1")
    await bench.settled(1)
    assert words(*bench.texts()) == words(LONG)
    threads = [one.address.thread_id for one in bench.fake.sent]
    assert threads == ["t1"] * 2 + [None] * (len(threads) - 2)


@pytest.mark.behaviour("RT-12")
async def test_a_later_delivery_for_a_moved_chat_goes_to_the_new_chat_directly(
    bench: Bench,
) -> None:
    bench.fake.errors_by_attempt = {1: ChatMoved("x", to="c9")}
    await bench.enter("one", 1)
    await bench.settled(1)
    await bench.enter("two", 3)
    await bench.settled(3)
    assert (bench.texts("c9"), bench.fake.attempts.total()) == (["one", "two"], 3)


@pytest.mark.behaviour("RT-12", "DL-05")
@pytest.mark.parametrize("answer", [None, ChatMoved("x", to="c9"), Ambiguous("x")], ids=["sent", "moved", "lost"])
async def test_a_send_in_progress_while_its_chat_moves_is_handled_only_when_it_is_over(
    bench: Bench, answer: ChannelError | None
) -> None:
    bench.fake.errors_by_attempt = {} if answer is None else {1: answer}
    bench.fake.hold()
    await bench.enter("one", 1)
    await bench.enter("two", 3)
    await bench.fake.wait_for_attempts(1)
    await bench.moving.move(ChatKey(*FAKE, "c1"), "c9")
    for _ in range(10):  # every worker has had its turn
        await bench.clock.advance(0)
        await bench.known(1)
    assert bench.fake.attempts.total() == 1
    bench.fake.release()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while (await bench.known(3)).status is not DeliveryStatus.SENT:
            await bench.clock.advance(1)
    tries = [one.outcome for one in await deliveries.list_attempts(bench.store, await bench.known(1))]
    assert tries == (["sent"] if answer is None else [answer.reason, "sent"])
    assert bench.texts() == ["one", "two"]
    assert bench.texts("c9") == (["two"] if answer is None else ["one", "two"])
