"""Whether a platform fails as a whole, or with one message only."""

from __future__ import annotations

import pytest

from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.delivery.channel_health import MAX_SINGLE_FAILURE_S, ChannelHealth
from nanohost.model import SessionId

LANE = DeliveryQueueKey(SessionId("s"), "fake", "default", "c1")
OTHER = DeliveryQueueKey(SessionId("s"), "fake", "default", "c2")
FAKE = ("fake", "default")


@pytest.mark.behaviour("DL-04")
def test_while_nothing_succeeds_each_failure_counts_for_the_platform() -> None:
    health = ChannelHealth()
    assert [health.record_failure(LANE, 10.0 * number) for number in range(4)] == [1, 2, 3, 4]


@pytest.mark.behaviour("DL-03")
def test_a_failure_between_successes_may_be_caused_by_the_message() -> None:
    health = ChannelHealth()
    health.record_failure(LANE, 0.0)
    assert health.passed(OTHER), "somebody waits"
    assert health.record_failure(LANE, 1.0) == 0
    assert health.record_failure(LANE, 2.0) == 1, "nothing else went through since"


@pytest.mark.behaviour("DL-03", "DL-04")
@pytest.mark.parametrize(("heard_after_s", "counts"), [(60.0, False), (MAX_SINGLE_FAILURE_S, True)])
def test_a_message_that_fails_alone_for_an_hour_on_an_active_channel_is_not_an_outage(
    heard_after_s: float, counts: bool
) -> None:
    health = ChannelHealth()
    health.record_failure(LANE, 100.0)
    health.record_inbound(FAKE, 100.0 + heard_after_s)
    later = 100.0 + 2 * MAX_SINGLE_FAILURE_S
    assert [health.record_failure(LANE, later + number) == 0 for number in range(3)] == [counts] * 3
    health.clear_failure(LANE)
    assert health.record_failure(LANE, later + 10) == 1, "the next message has an hour of its own"


@pytest.mark.behaviour("DL-04")
def test_activity_on_another_instance_says_nothing_about_a_channel() -> None:
    health = ChannelHealth()
    health.record_failure(LANE, 0.0)
    health.record_inbound(("fake", "second"), MAX_SINGLE_FAILURE_S)
    assert health.record_failure(LANE, MAX_SINGLE_FAILURE_S + 1) == 2
