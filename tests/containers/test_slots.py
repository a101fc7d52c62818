"""Which session gets a container, and whose is evicted for it."""

from __future__ import annotations

import pytest

from nanohost.containers.pool import ContainerPool, Slot, SlotState
from nanohost.model import LeaseId, SessionId

ONE, TWO, THREE = SessionId("one"), SessionId("two"), SessionId("three")


def slot(session: SessionId, *, touched: float = 0.0, busy: bool = False, state: SlotState = SlotState.RUNNING) -> Slot:
    return Slot(
        session_id=session, lease=LeaseId("l"), state=state, last_activity=touched, started_at=0.0, is_busy=busy
    )


def slots(most: int, *living: Slot, waiting: tuple[SessionId, ...] = ()) -> ContainerPool:
    made = ContainerPool(most)
    for one in living:
        made.add(one)
    for session in waiting:
        made.enqueue(session)
    return made


class CountedSessionId(str):
    """A session id that counts its comparisons."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedSessionId.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_queueing_a_session_again_costs_the_same_for_any_queue_length() -> None:
    """The sweep queues each session with work."""
    made, many = slots(2), 1_000
    for _ in range(2):
        for number in range(many):
            made.enqueue(SessionId(CountedSessionId(number)))
            assert made.is_queued(SessionId(CountedSessionId(number)))
    assert len(made.queued()) == many
    assert CountedSessionId.compared < 10 * many


@pytest.mark.behaviour("SE-04")
def test_queued_sessions_are_served_in_order_of_arrival_and_queued_once() -> None:
    made = slots(2, waiting=(ONE, TWO, ONE, THREE))
    assert made.queued() == (ONE, TWO, THREE)
    assert made.next_startable() == ONE
    made.add(slot(ONE))
    assert made.next_startable() == TWO
    made.add(slot(TWO))
    assert made.next_startable() is None
    made.remove(ONE)
    assert made.next_startable() == THREE


@pytest.mark.behaviour("SE-01")
def test_a_session_waits_for_its_old_container_to_end_and_lets_others_pass() -> None:
    made = slots(3, slot(ONE, state=SlotState.STOPPING), waiting=(ONE, TWO))
    assert made.next_startable() == TWO
    assert made.next_startable() is None
    made.remove(ONE)
    assert made.next_startable() == ONE


def test_no_container_is_evicted_while_there_is_a_free_slot_or_an_empty_queue() -> None:
    assert slots(2, slot(ONE), waiting=(TWO,)).eviction_candidate() is None
    assert slots(1, slot(ONE)).eviction_candidate() is None


@pytest.mark.behaviour("SE-04", "SE-05")
def test_the_longest_idle_container_is_evicted() -> None:
    made = slots(2, slot(ONE, touched=2.0), slot(TWO, touched=1.0), waiting=(THREE,))
    evicted = made.eviction_candidate()
    assert evicted is not None
    assert evicted.session_id == TWO


@pytest.mark.behaviour("SE-05")
@pytest.mark.parametrize(
    "living",
    [
        slot(ONE, busy=True),
        slot(ONE, state=SlotState.STARTING),
        slot(ONE, state=SlotState.STOPPING),
    ],
    ids=["busy", "starting", "stopping"],
)
def test_a_busy_starting_or_stopping_container_is_neither_evicted_nor_idle(living: Slot) -> None:
    made = slots(1, living, waiting=(TWO,))
    assert made.eviction_candidate() is None
    assert made.idle_since(100.0) == []


def test_one_container_is_evicted_at_a_time() -> None:
    made = slots(2, slot(ONE, state=SlotState.STOPPING), slot(TWO), waiting=(THREE,))
    assert made.eviction_candidate() is None


@pytest.mark.behaviour("SE-05")
def test_a_slot_without_activity_since_a_moment_is_idle() -> None:
    made = slots(3, slot(ONE, touched=1.0), slot(TWO, touched=5.0), slot(THREE, touched=6.0))
    assert [one.session_id for one in made.idle_since(5.0)] == [ONE, TWO]
