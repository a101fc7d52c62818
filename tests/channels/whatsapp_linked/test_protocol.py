"""The bridge's own parts: the protocol is the same for channel and simulator, ids, errors, the spool, the start."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import stat
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from channels import _whatsapp_linked as channel
from nanohost.channel_api import (
    Ambiguous,
    AuthFailed,
    ChannelDown,
    ChannelError,
    EventKind,
    NotSent,
    RateLimited,
    Refused,
)
from nanohost.testing.simulators import _whatsapp_lines as simulated
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_whatsapp_bridge import errors, jids, protocol
from nanohost_whatsapp_bridge.spool import Spool

FULL = protocol.Message(
    key="c m",
    kind="edit",
    id="m",
    chat="c",
    sender="s",
    sender_name="Ada",
    text="\ud800 & 世界",
    sent_at=1.0,
    chat_name="Home",
    is_group=True,
    is_bot=True,
    mentions_me=True,
    refers_to="r",
    file=protocol.File(ref="f", name="n", media_type="text/plain", size=3),
)
EVENTS: list[protocol.Event] = [
    *(protocol.State(state=state) for state in get_args(protocol.StateName)),
    protocol.State(state="down", text="no network", me="1@s.whatsapp.net"),
    protocol.Qr(picture="▄▀"),
    protocol.PairCode(code="ABCD-1234"),
    protocol.Message(key="c m", id="m", chat="c", sender="s", sent_at=1.5),
    FULL,
    protocol.Done(id="1", message="m"),
    protocol.Done(id="1"),
    protocol.Error(id="1", reason="rate_limited", text="slowly", retry_after_s=2.0),
    *(protocol.Error(id="1", reason=reason, text="x") for reason in get_args(protocol.Reason)),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_of_the_bridge_is_understood_by_the_channel(event: protocol.Event) -> None:
    line = protocol.encode(event)
    assert line.count(b"\n") == 1
    said = channel.parse(line)
    assert said is not None
    assert said.model_dump(exclude_none=True) == protocol.parse_event(line).model_dump(exclude_none=True)


def test_channel_and_bridge_have_the_same_events_and_fields() -> None:
    pairs = [(channel.Succeeded, protocol.Done)]
    pairs += [
        (getattr(channel, name), getattr(protocol, name))
        for name in ("State", "Qr", "PairCode", "File", "Message", "Error")
    ]
    for ours, theirs in pairs:
        assert set(ours.model_fields) == set(theirs.model_fields), ours


@pytest.mark.parametrize(
    ("bridge", "simulator"), [(protocol.Op, simulated.Op), (protocol.Event, simulated.Event)], ids=["ops", "events"]
)
def test_the_simulator_reads_and_writes_the_same_lines_as_the_bridge(bridge: object, simulator: object) -> None:
    assert _schema(simulator) == _schema(bridge)
    assert simulated.MAX_LINE_BYTES == protocol.MAX_LINE_BYTES == channel.MAX_LINE_BYTES


def test_the_simulator_encodes_each_event_as_the_bridge_does() -> None:
    for event in EVENTS:
        same = simulated.EVENTS.validate_python(event.model_dump())
        assert simulated.encode(same) == protocol.encode(event)


def _schema(lines: Any) -> object:
    return _without_descriptions(TypeAdapter(lines).json_schema())


def _without_descriptions(schema: object) -> object:
    """A JSON schema without what only people read. The key of a field called `description` has a dict."""
    if isinstance(schema, list):
        return [_without_descriptions(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_descriptions(value)
        for key, value in schema.items()
        if key != "description" or isinstance(value, dict)
    }


@pytest.mark.behaviour("DL-04")
@pytest.mark.parametrize(
    ("reason", "raised"),
    [
        ("not_sent", NotSent),
        ("server_error", NotSent),
        ("down", ChannelDown),
        ("rate_limited", RateLimited),
        ("ambiguous", Ambiguous),
        ("refused", Refused),
        ("auth", AuthFailed),
    ],
)
def test_each_reason_has_its_error(reason: protocol.Reason, raised: type[ChannelError]) -> None:
    said = channel.parse(protocol.encode(protocol.Error(id="1", reason=reason, text="why")))
    assert isinstance(said, channel.Error)
    error = channel.to_channel_error(said)
    assert type(error) is raised
    assert "why" in str(error)
    assert error.server_error is (reason == "server_error")


def test_a_message_from_the_bridge_becomes_an_event() -> None:
    said = channel.parse(protocol.encode(FULL))
    assert isinstance(said, channel.Message)
    event = channel.to_inbound_event(said)
    assert (event.kind, event.refers_to, event.text, event.chat_name) == (EventKind.EDIT, "r", "\ufffd & 世界", "Home")
    assert (event.sender.handle, event.sender.is_bot, event.sender.is_self) == ("s", True, False)
    assert [dataclasses.astuple(one) for one in event.attachments] == [("f", "n", "text/plain", 3)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b"\xff",
        b'{"op": "send"}',
        b'{"op": "brand new"}',
        b'{"op": "ping", "id": 5}',
        b'{"op": "ping", "id": "1", "more": 1}',
    ],
)
def test_an_invalid_line_is_reported_without_repeating_it(line: bytes) -> None:
    with pytest.raises(protocol.InvalidLine):
        protocol.parse_op(line)


# Ids and errors

PHONE, HIDDEN = "49170@s.whatsapp.net", "998@lid"


def test_a_person_is_identified_by_phone_number_whichever_id_came_first() -> None:
    assert jids.preferred_jid(PHONE, HIDDEN) == jids.preferred_jid(HIDDEN, PHONE) == PHONE
    assert jids.preferred_jid("49170:12@s.whatsapp.net") == PHONE
    assert jids.preferred_jid(HIDDEN, "") == HIDDEN
    assert jids.preferred_jid("", "s.whatsapp.net") == ""


@pytest.mark.behaviour("IN-05")
@pytest.mark.parametrize(
    ("chat", "from_me", "is_group", "wanted"),
    [
        (HIDDEN, False, False, True),
        ("500@g.us", False, True, True),
        (PHONE, True, False, True),
        ("1@lid", True, False, False),
        ("500@g.us", True, True, False),
        ("status@broadcast", False, False, False),
        ("5@newsletter", False, False, False),
    ],
)
def test_own_messages_count_only_in_the_chat_with_oneself(
    chat: str, from_me: bool, is_group: bool, wanted: bool
) -> None:
    source = jids.MessageSource(chat=chat, sender=PHONE, from_me=from_me, is_group=is_group)
    assert jids.is_for_us(source, (PHONE, "77@lid")) is wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v/t62.7119-24/1?ccb=11", True),
        ("", False),
        ("@127.0.0.1/latest/meta-data", False),
        (".evil.example/v/1", False),
        (":8080/v/1", False),
        ("http://127.0.0.1/", False),
    ],
)
def test_a_file_is_fetched_only_from_whatsapp(path: str, wanted: bool) -> None:
    assert jids.is_media_path(path) is wanted


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("the store doesn't contain a device JID", "auth"),
        ("websocket not connected", "not_sent"),
        ("failed to get device list: x", "not_sent"),
        ("server returned error 429", "rate_limited"),
        ("timed out waiting for message response", "ambiguous"),
        ("server returned error 479", "refused"),
        ("server returned error 503", "server_error"),
        ("something entirely new", "ambiguous"),
    ],
)
@pytest.mark.behaviour("DL-05")
def test_an_unknown_error_makes_a_send_ambiguous(error: str, reason: str) -> None:
    assert errors.classify_error(error) == reason


@pytest.mark.behaviour("DL-04")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("the file was not uploaded: server returned error 503", "server_error"),
        ("the file was not uploaded: timed out", "not_sent"),
    ],
)
def test_a_certain_failure_tells_whether_whatsapp_itself_failed(error: str, reason: str) -> None:
    assert errors.classify_unsent(error) == reason


# The spool


@pytest.mark.behaviour("IN-01")
def test_unaccepted_messages_outlive_the_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    assert [spool.add(key, key.encode()) for key in ("a", "b", "a", "c")] == [True, True, False, True]
    spool.remove("b")
    spool.close()
    again = Spool(tmp_path / "spool.db")
    assert list(again.pending()) == [b"a", b"c"]
    again.close()
    assert stat.S_IMODE((tmp_path / "spool.db").stat().st_mode) == 0o600


# The program


async def test_the_bridge_without_its_library_says_what_to_install_and_ends(tmp_path: Path) -> None:
    # A library of this name that cannot be imported, whatever is installed.
    (tmp_path / "neonize.py").write_text("raise ImportError('there is no neonize')")
    said, code = await _bridge(tmp_path, protocol.encode(protocol.Open(folder=str(tmp_path / "session"))))
    assert said["state"] == "missing"
    assert "pip install -e whatsapp_bridge" in str(said["text"])
    assert code == 3


async def test_the_bridge_ends_when_its_input_is_closed(tmp_path: Path) -> None:
    said, code = await _bridge(tmp_path, b"not a line\n" + b"half a li")
    assert (said, code) == ({}, 0)


async def _bridge(folder: Path, lines: bytes) -> tuple[dict[str, object], int | None]:
    """The real program's first output for these lines, and its exit code."""
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import nanohost_whatsapp_bridge.__main__ as it; it.main()"
    )
    bridge = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        said, _ = await bridge.communicate(lines)
    return json.loads(said.splitlines()[0]) if said else {}, bridge.returncode


@pytest.mark.parametrize(
    ("text", "heard"),
    [("@49123 /stop", "/stop"), ("@777: hello", "hello"), ("@49123", "@49123"), ("@1 /stop", "@1 /stop"), ("", "")],
)
def test_the_bots_name_before_a_message_is_removed(text: str, heard: str) -> None:
    assert jids.strip_mention(text, ("49123@s.whatsapp.net", "777@lid")) == heard
