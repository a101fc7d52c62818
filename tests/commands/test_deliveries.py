"""Deliveries on a stopped host: listed, shown, and decided on for the next start."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nanohost.db import deliveries
from nanohost.db.deliveries import AttemptOutcome, Delivery, DeliveryPart, DeliveryQueueKey, DeliveryStatus
from nanohost.db.notice_numbers import DELIVERY_NOTICES_START, EVENT_NOTICES_START, MESSAGE_NOTICES_START
from nanohost.errors import UsageError
from nanohost.model import SessionId
from nanohost.scheduler.task_messages import MIN_SEQ
from nanohost_protocol.payloads import ChatOut, encode
from tests.commands.conftest import Operator
from tests.db.test_entities import a_session

CONTENT = encode(ChatOut(text="hello"))
AN_ANSWER = Delivery(
    queue=DeliveryQueueKey(SessionId("s"), "fake", "default", "c1"),
    seq=1,
    out_id="o1",
    kind="chat",
    thread_id=None,
    reply_to=None,
    content=CONTENT,
    status=DeliveryStatus.PENDING,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


async def add_deliveries(operator: Operator, *wanted: DeliveryStatus) -> str:
    """A session with a delivery of each status, numbered from 1; returns its id."""
    store, now = operator.context.store, operator.context.clock.now()
    session = await a_session(store)
    for seq, status in enumerate(wanted, 1):
        delivery = Delivery(
            queue=DeliveryQueueKey(session, "fake", "default", "c1"),
            seq=seq,
            out_id=f"o{seq}",
            kind="chat",
            thread_id=None,
            reply_to=None,
            content=CONTENT,
            status=DeliveryStatus.PENDING,
            created_at=now,
        )
        async with store.transaction() as tx:
            await deliveries.add(tx, delivery)
            await deliveries.begin_attempt(tx, delivery, now)
            if status is not DeliveryStatus.SENDING:
                await deliveries.end_attempt(
                    tx, delivery, AttemptOutcome(status=status, code="not_sent", reason="no\x1b[2J", error="no"), now
                )
    return session


@pytest.mark.behaviour("DL-02")
async def test_deliveries_are_listed_by_status_and_session_and_shown_with_every_attempt(operator: Operator) -> None:
    session = await add_deliveries(operator, DeliveryStatus.DEAD, DeliveryStatus.SENT)
    assert [row["seq"] for row in await operator.run("deliveries list")] == [2, 1]
    assert [row["seq"] for row in await operator.run("deliveries list", limit="1")] == [2]
    [dead] = await operator.run("deliveries list", status="dead", session=session[:6])
    assert (dead["session"], dead["seq"], dead["chat"], dead["place"]) == (session, 1, "fake c1", "fake:default:c1")
    shown = await operator.render("deliveries get", session=session, seq="1")
    assert "text: hello" in shown
    assert "not_sent" in shown
    assert "\x1b" not in shown


@pytest.mark.behaviour("DL-06")
async def test_a_long_message_shows_how_many_parts_are_sent(operator: Operator) -> None:
    session = await add_deliveries(operator, DeliveryStatus.SENDING)
    store, now = operator.context.store, operator.context.clock.now()
    [delivery] = await deliveries.latest(store.reports, status=None, session=SessionId(session), limit=1)
    first, last = (DeliveryPart(number=number, of=2, text="t", plain="t") for number in range(2))
    async with store.transaction() as tx:
        await deliveries.add_parts(tx, delivery, [first, last])
        await deliveries.end_part(tx, delivery, first, ["7"], now)
    shown = await operator.run("deliveries get", session=session, seq=1)
    assert (shown["parts"], shown["reason"]) == ("1 of 2 sent", "part 1 of 2 is sent")


@pytest.mark.behaviour("DL-03", "DL-05")
async def test_a_decision_on_a_stopped_host_takes_effect_at_its_next_start(operator: Operator) -> None:
    session = await add_deliveries(operator, DeliveryStatus.DEAD, DeliveryStatus.UNKNOWN)
    resent = await operator.run("deliveries resend", session=session, seq=1)
    assert (resent["status"], resent["next"]) == ("pending", "it is sent when the host runs: nanohost run")
    dropped = await operator.run("deliveries drop", session=session, seq=2, reason="wrong chat")
    assert (dropped["status"], dropped["reason"]) == ("dropped", "dropped by the operator: wrong chat")
    assert f"nanohost deliveries resend {session} 2" in dropped["next"]
    shown = await operator.run("deliveries get", session=session, seq=2)
    assert shown["operator_said"] == "drop"


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (DeliveryStatus.SENT, "deliveries resend", "was sent; it cannot be sent again"),
        (DeliveryStatus.PENDING, "deliveries resend", "waits to be sent already"),
        (DeliveryStatus.SENDING, "deliveries drop", "is being sent"),
        (DeliveryStatus.DROPPED, "deliveries resend", "was dropped: no"),
    ],
)
async def test_a_delivery_that_cannot_be_decided_is_refused_with_the_reason(
    operator: Operator, status: DeliveryStatus, words: str, said: str
) -> None:
    session = await add_deliveries(operator, status)
    with pytest.raises(UsageError, match=said) as caught:
        await operator.run(words, session=session, seq=1)
    assert caught.value.hint == f"nanohost deliveries get {session} 1"


@pytest.mark.behaviour("OP-05")
async def test_a_missing_delivery_is_refused_with_a_hint(operator: Operator) -> None:
    session = await add_deliveries(operator)
    with pytest.raises(UsageError, match="no delivery 7") as caught:
        await operator.run("deliveries drop", session=session, seq=7)
    assert caught.value.hint == f"nanohost deliveries list --session {session}"
    with pytest.raises(UsageError, match="no session"):
        await operator.run("deliveries get", session="nobody", seq=7)


@pytest.mark.behaviour("SE-12", "OP-05")
async def test_during_a_pause_a_resend_is_announced_for_after_the_resume(operator: Operator) -> None:
    session = await add_deliveries(operator, DeliveryStatus.DEAD)
    await operator.run("pause")
    resent = await operator.run("deliveries resend", session=session, seq=1)
    assert resent["next"] == "it is sent when all goes on: nanohost resume"


@pytest.mark.behaviour("DL-02")
@pytest.mark.parametrize(
    ("seq", "typed"),
    [
        (MESSAGE_NOTICES_START + 448, "n448"),
        (EVENT_NOTICES_START + 17, "e17"),
        (DELIVERY_NOTICES_START + 5, "d5"),
        (MIN_SEQ + 25, "t25"),
        (9, "9"),
    ],
)
async def test_a_twenty_digit_sequence_number_is_shown_and_typed_in_short_form(
    operator: Operator, seq: int, typed: str
) -> None:
    session = await a_session(operator.context.store)
    delivery = replace(AN_ANSWER, queue=replace(AN_ANSWER.queue, session_id=session), seq=seq)
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        await deliveries.add(tx, delivery)
        await deliveries.begin_attempt(tx, delivery, now)
        dead = AttemptOutcome(status=DeliveryStatus.DEAD, code="refused", reason="no", error="no")
        await deliveries.end_attempt(tx, delivery, dead, now)
    for words in ("deliveries list", "status"):
        shown = await operator.render(words)
        assert typed in shown.split(), words
        assert str(seq) not in shown or seq == 9
    assert f"deliveries resend {session} {typed}," in await operator.render("status")
    for again in (typed, str(seq)):
        assert (await operator.run("deliveries get", session=session, seq=again))["seq"] == seq
    gone = await operator.run("deliveries drop", session=session, seq=typed)
    assert gone["next"] == f"nanohost deliveries resend {session} {typed} takes it back"
    with pytest.raises(UsageError, match=f"delivery {typed} of session {session} was dropped"):
        await operator.run("deliveries drop", session=session, seq=typed)


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("typed", ["x3", "n", "n-1", "nn4", "n99999999999999999999", "t9999999999999999999"])
async def test_an_invalid_delivery_number_is_refused(operator: Operator, typed: str) -> None:
    session = await a_session(operator.context.store)
    with pytest.raises(UsageError) as refused:
        await operator.run("deliveries get", session=session, seq=typed)
    assert "there is no delivery" in str(refused.value) or "seq: " in str(refused.value)
