"""Log lines about messages, with everything real: received, routed, answered, sent; never the text."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanohost.channel_api import Attachment, EventKind, InboundEvent, Refused, Sender
from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.db.events import ChatKey
from nanohost.logs import configure_logging
from nanohost.model import SessionId, UnknownSender
from nanohost.testing.fake_channel import PERSON, FakeChannel
from nanohost.testing.manual_clock import START
from tests.channels.everywhere import AllPlatforms, run_host
from tests.flows.host_fixture import HostTestEnv
from tests.flows.test_messages import wait_for_status
from tests.support.flow import RunningHost, Script

Logs = Callable[..., io.StringIO]
SECRET = "marzipan"
"""In every message of people and every answer of the agent."""
SCRIPT: Script = [
    {"match": "fails", "actions": [{"error": "permanent"}]},
    {"match": "dies", "attempt": 1, "actions": [{"crash": True}]},
    {"match": "lost", "actions": [{"text": f'<message to="{SECRET}">{{text}}</message>'}]},
    {
        "match": "card",
        "actions": [{"tool": "ask_user_question", "arguments": {"question": SECRET, "options": [SECRET]}}],
    },
    {"match": "later", "actions": [{"tool": "schedule_task", "arguments": {"prompt": SECRET, "when": SECRET}}]},
]


@pytest.fixture
def logs() -> Logs:
    """Redirects all logs to a test."""

    def begin(asked: str) -> io.StringIO:
        written = io.StringIO()
        configure_logging({"NANOHOST_LOG": asked}, stream=written)
        return written

    return begin


class FailsToFetch(FakeChannel):
    """Cannot fetch any file."""

    async def fetch(self, file: Attachment, into: Path, *, most_bytes: int) -> None:
        raise Refused("it is gone")


def log_lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


@pytest.mark.behaviour("OP-09")
async def test_a_repeated_platform_event_is_logged_at_debug_level(
    host_env_with_events: HostTestEnv, logs: Logs
) -> None:
    written = logs("json,debug")
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        for _ in range(2):
            await host_env_with_events.fake.person_writes("hello", message_id="m-1")
        await wait_for_status(flow, "answered")
    repeats = [line for line in log_lines(written) if line["event"] == "message_duplicate"]
    assert [(line["level"], line["chat"], line["message"]) for line in repeats] == [("debug", "c1", "m-1")]
    assert len([line for line in log_lines(written) if line["event"] == "message_received" and "user" in line]) == 1


@pytest.mark.behaviour("OP-09")
async def test_the_log_shows_when_a_message_is_received_routed_answered_and_sent(
    host_env_with_events: HostTestEnv, logs: Logs
) -> None:
    written = logs("json")
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hello", message_id="m-1")
        await wait_for_status(flow, "answered")
        session = await flow.session()
    lines = {line["event"]: line for line in log_lines(written)}
    order = [line["event"] for line in log_lines(written) if line["event"].startswith(("message_", "turn_"))]
    assert [event for event in order if event != "turn_completed"] == [
        "message_received",
        "message_routed",
        "message_collected",
        "message_sent",
    ]
    assert all(lines[event]["level"] == "info" for event in order)
    came, routed = lines["message_received"], lines["message_routed"]
    assert (came["channel"], came["chat"], came["message"], came["user"]) == ("fake", "c1", "m-1", "fake:u1")
    assert (routed["number"], routed["message"], routed["outcome"], routed["session"]) == (
        1,
        "m-1",
        "written",
        session.id,
    )
    assert lines["turn_completed"]["turn"] == lines["message_collected"]["turn"]
    assert lines["message_sent"]["seq"] == lines["message_collected"]["seq"]


async def many_things_happen(flow: RunningHost, fake: FakeChannel) -> None:
    """People write in all the ways that end differently; their text is in each of them."""
    for chat in ("c1", "fails", "dies", "lost", "card"):
        await flow.wire(chat, script=SCRIPT)
    await flow.wire("strict", unknown=UnknownSender.STRICT)
    await flow.wire("asks", unknown=UnknownSender.REQUEST_APPROVAL)
    await flow.wire("pattern", pattern="^hey")
    for chat in ("fails", "dies", "lost", "card"):
        await fake.person_writes(f"{chat} {SECRET}", chat=chat)
    for text in ("hello", "later", "/status", "/nonsense"):
        await fake.person_writes(f"{text} {SECRET}")
    for chat in ("strict", "asks", "pattern", "unwired"):
        await fake.person_writes(f"hello {SECRET}", chat=chat)
    await fake.person_writes(f"hello {SECRET}", chat="noise", group=True)
    for kind, id in ((EventKind.EDIT, "e1"), (EventKind.REACTION, "e2"), (EventKind.MESSAGE, "e3")):
        event = InboundEvent(
            platform_id="c1",
            platform_message_id=id,
            sender=Sender(handle=PERSON.handle, name=PERSON.name),
            text=f"and {SECRET}",
            sent_at=START,
            kind=kind,
            refers_to="m1" if kind is not EventKind.MESSAGE else None,
            attachments=(Attachment(ref="f", name=f"{SECRET}.txt"),) if kind is EventKind.MESSAGE else (),
        )
        await fake.emit_event(event)
    fake.should_refuse = True
    await fake.person_writes(f"refused {SECRET}")
    await wait_for_status(flow, "undelivered", id=await _last(flow))
    fake.should_refuse = False
    await wait_for_status(flow, "failed", id=1)
    [first, *_] = await flow.sessions()
    await flow.run_command("tasks create", session=first.id, prompt=SECRET, at="in 10m")


async def _last(flow: RunningHost) -> int:
    [row] = await flow.host.store.fetch_all("SELECT max(id) AS id FROM inbound_events")
    return int(row["id"])


@pytest.mark.behaviour("OP-09")
@pytest.mark.parametrize("asked", ["json", "json,debug"])
async def test_message_texts_are_logged_at_debug_level_only(tmp_path: Path, logs: Logs, asked: str) -> None:
    written = logs(asked)
    stage = HostTestEnv(tmp_path)
    stage.fake = FailsToFetch()
    async with stage.run_host(should_verify_clean=False) as flow:
        await many_things_happen(flow, stage.fake)
    await stage.cleanup()
    told = [line for line in written.getvalue().splitlines() if SECRET in line]
    assert bool(told) is ("debug" in asked)
    assert {json.loads(line)["level"] for line in told} <= {"debug"}
    events = {line["event"] for line in log_lines(written)}
    assert events >= {"message_received", "message_routed", "turn_failed", "delivery_failed", "attachment_fetch_failed"}


@pytest.mark.behaviour("OP-09")
async def test_log_events_are_the_same_with_every_platform_connected(tmp_path: Path, logs: Logs) -> None:
    """Their libraries set up loggers of their own."""
    written, world = logs("json"), AllPlatforms()
    async with run_host(tmp_path, world):
        await world.send_to_all("hello")
        await world.wait_until_read("echo: hello")
    told = {(line["event"], line.get("channel")) for line in log_lines(written)}
    assert told >= {("message_received", name) for name in world.platforms}


def test_worker_keys_are_logged_as_channels_chats_and_sessions() -> None:
    """No log line contains a class name."""
    assert str(ChatKey("telegram", "default", "-100:7")) == "telegram:default:-100:7"
    lane = DeliveryQueueKey(SessionId("s1"), "telegram", "work", "7")
    assert str(lane) == "s1 telegram:work:7"
    assert str(replace(lane, is_card_queue=True)) == "s1 telegram:work:7 (cards)"
