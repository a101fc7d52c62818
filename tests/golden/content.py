"""What the golden files of the mailbox hold: fixed ids, fixed times, every kind of row. scripts/golden writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from nanohost_protocol.ids import channel_message_id, out_id, turn_id
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.payloads import (
    CardOut,
    ChatIn,
    ChatOut,
    ControlIn,
    EditOut,
    FileOut,
    OutPayload,
    QuestionOut,
    ReactionOut,
    SystemIn,
    SystemOut,
    TaskIn,
    TaskOut,
    WebhookIn,
    encode,
)
from nanohost_protocol.rows import (
    ChatId,
    DeliveryResult,
    Destination,
    ErrorClass,
    InKind,
    MessageIn,
    NewMessageIn,
    NewMessageOut,
    Origin,
    OutKind,
    TurnError,
    Usage,
)

NOON = datetime(2026, 1, 2, 12, 0, 0, 345678, tzinfo=UTC)
FIVE_PAST = NOON + timedelta(minutes=5)
FOLDER = Path(__file__).parent

ORIGIN = Origin(channel_type="telegram", instance="main", platform_id="-100", thread_id="7", platform_message_id="4711")
CHAT_ID = channel_message_id(
    channel_type="telegram",
    instance="main",
    platform_id="-100",
    platform_message_id="4711",
    event_kind="message",
    wiring=1,
)
INCOMING = (
    NewMessageIn(
        id=CHAT_ID,
        kind=InKind.CHAT,
        timestamp=NOON,
        content=encode(ChatIn(text="Grüße 🌍\n", sender="Ada", sender_id="u1")),
        origin=ORIGIN,
    ),
    NewMessageIn(
        id="context",
        kind=InKind.CHAT,
        timestamp=NOON,
        content=encode(ChatIn(text="x", sender="Bo", sender_id="u2", event="edit", refers_to="4711")),
        trigger=False,
        origin=ORIGIN,
    ),
    NewMessageIn(
        id="task",
        kind=InKind.TASK,
        timestamp=NOON,
        content=encode(TaskIn(prompt="water the plants", script="true")),
        process_after=FIVE_PAST,
    ),
    NewMessageIn(id="webhook", kind=InKind.WEBHOOK, timestamp=NOON, content=encode(WebhookIn(source="ci", body="{}"))),
    NewMessageIn(
        id="system",
        kind=InKind.SYSTEM,
        timestamp=NOON,
        content=encode(SystemIn(text="hello again", about="restart")),
        on_wake=True,
        source_session_id="s1",
    ),
    NewMessageIn(
        id="control", kind=InKind.CONTROL, timestamp=NOON, content=encode(ControlIn(command="stop")), on_wake=False
    ),
)
DESTINATIONS = (
    Destination(name="home", display_name="Home", chat=ChatId("telegram", "main", "-100")),
    Destination(name="bob", display_name="Bob the agent", type="agent"),
)
META = {"out_cursor": "9", "ack_cursor": "3", "timezone": "Europe/Berlin"}

TURN = turn_id(CHAT_ID)
FAILED_TURN = turn_id("webhook")
OUTGOING: tuple[tuple[OutKind, OutPayload], ...] = (
    (OutKind.CHAT, ChatOut(text="Hallo 🌍")),
    (OutKind.CARD, CardOut(title="Deploy?", body="v2", options=("yes", "no"))),
    (OutKind.QUESTION, QuestionOut(text="Which?", options=("a", "b"))),
    (OutKind.EDIT, EditOut(message=11, text="Hallo")),
    (OutKind.REACTION, ReactionOut(message=10, emoji="👍")),
    (OutKind.FILE, FileOut(name="plot.png", caption="a plot")),
    (OutKind.TASK, TaskOut(prompt="again", due="2026-01-03T12:00:00.000000Z", recurrence="0 9 * * *")),
    (OutKind.SYSTEM, SystemOut(action="create_agent", arguments="{}")),
)
USAGE = Usage(model="m-1", tokens_in=10, tokens_out=20, tokens_cached=5, cost_usd=0.25)
ERROR = TurnError(error_class=ErrorClass.RATE_LIMITED, sentence="The model asks to wait.", retry_at=FIVE_PAST)


def make_outgoing(kind: OutKind, payload: OutPayload, *, turn: str = TURN) -> NewMessageOut:
    """A message of a turn; the first chat line answers its cause, the rest is addressed by name."""
    content = encode(payload)
    answers = kind is OutKind.CHAT
    return NewMessageOut(
        id=out_id(turn=turn, kind=kind, destination="home", content=content, occurrence=0),
        turn_id=turn,
        kind=kind,
        content=content,
        in_reply_to=CHAT_ID if answers else None,
        destination=None if answers else "home",
        deliver_after=FIVE_PAST if kind is OutKind.FILE else None,
    )


def write_inbound(path: Path) -> None:
    """The host's file: open, closed and retried rows, projections, addresses."""
    with inbound_transaction(path, durable=False) as box:
        box.set_meta(META)
        for message in INCOMING:
            box.insert(message)
        box.retry("task", tries=0, process_after=FIVE_PAST)
        box.close("webhook", "failed")
        box.set_destinations(DESTINATIONS, "home")
        box.record_delivery_results(
            [DeliveryResult(out_id="o1", status="sent", platform_message_ids=("5", "6"), changed_at=FIVE_PAST)]
        )


def write_outbound(path: Path, incoming: dict[str, MessageIn]) -> None:
    """The runner's file: a turn that completed, one that failed, a claim left open and one given up."""
    earlier = OutboundWriter(path, container_id="lease0", durable=False)
    earlier.abandon_stale_claims(NOON)
    earlier.claim("t-gone", [incoming["context"]], NOON)
    earlier.close()
    box = OutboundWriter(path, container_id="lease1", durable=False)
    box.abandon_stale_claims(NOON)
    box.claim(TURN, [incoming[CHAT_ID]], NOON)
    box.claim_more(TURN, [incoming["system"]], NOON)
    box.insert(make_outgoing(*OUTGOING[0]), highest_seen_seq=10, now=NOON)
    box.finish(
        TurnEnd(
            turn_id=TURN,
            messages=[make_outgoing(*each) for each in OUTGOING[1:]],
            usage=USAGE,
            continuation="conversation-1",
            state={"conversation:claude": "conversation-1"},
        ),
        highest_seen_seq=20,
        now=FIVE_PAST,
    )
    box.claim(FAILED_TURN, [incoming["webhook"]], NOON)
    box.finish(TurnEnd(turn_id=FAILED_TURN, messages=(), usage=Usage(), error=ERROR), highest_seen_seq=0, now=FIVE_PAST)
    box.claim("t-open", [incoming["task"]], FIVE_PAST)
    box.set_progress({"tool": "Bash"})
    box.close()
