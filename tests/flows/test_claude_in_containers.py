"""The real thing: Claude's own command line in a real container, asking a stand-in of the Messages API. It uses a
shell, so that what a shell needs of the kernel is let through; it reads what people send, of the sizes that they send;
and a conversation that the model refuses heals."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_runner.turn import CONTEXT_FULL_NOTICE, NEW_CONVERSATION_NOTICE
from nanohost.channel_api import Attachment
from nanohost.config.settings import make_settings
from nanohost.db import model_calls
from nanohost.errors import RuntimeUnavailable
from nanohost.gateway.model_call import TOO_LARGE_ERROR
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.docker_image import ensure_image
from nanohost.runtimes.runtime_api import Runtime
from nanohost.testing.full_channel import FullFeatureChannel
from tests.support.container_engines import docker_engine, podman_engine, podman_image
from tests.support.flow import RunningHost, install_id_for, run_host
from tests.support.messages_api import Failure, RecordedRequest, Rule, StubMessagesApi, Text, ToolUse
from tests.support.requirements import skip_or_fail
from tests.support.sample_files import make_photo, make_scanned_pdf

__all__ = ["docker_engine", "podman_engine", "podman_image"]

KEY = "sk-ant-not-a-real-key"
LIMIT_S = 60.0
SHELL_WORK = "set -e; git init -q repo; echo $((6 * 7)) | cat; python3 -c 'import sqlite3, ssl, threading' && echo fine"
ENGINES = [
    pytest.param("docker_engine", marks=pytest.mark.docker, id="docker"),
    pytest.param("podman_image", marks=pytest.mark.podman, id="podman"),
    pytest.param(None, marks=pytest.mark.bubblewrap, id="bubblewrap"),
]


@pytest.fixture(params=ENGINES)
async def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    """Each container runtime that is available."""
    if request.param is not None:
        request.getfixturevalue(request.param)
        image = await ensure_image(progress=lambda _: None)
        return DockerRuntime(install=install_id_for(tmp_path), image=image)
    sandbox = BubblewrapRuntime(install=install_id_for(tmp_path))
    try:
        sandbox.check()
    except RuntimeUnavailable as error:
        skip_or_fail("BUBBLEWRAP", str(error))
    return sandbox


@pytest.fixture
async def api() -> AsyncIterator[StubMessagesApi]:
    async with StubMessagesApi(key=KEY) as api:
        yield api


@pytest.fixture
def able() -> FullFeatureChannel:
    return FullFeatureChannel()


@asynccontextmanager
async def claude(
    api: StubMessagesApi, able: FullFeatureChannel, runtime: Runtime, root: Path
) -> AsyncIterator[RunningHost]:
    """A host whose agents are Claude."""
    settings = make_settings(
        host={"provider": "claude", "timezone": "UTC", "durable": False},
        agent={"base_url": api.base_url, "api_key": KEY},
    )
    async with run_host(root, fake=able, settings=settings, runtime=runtime) as flow:
        await flow.wire()
        yield flow


@pytest.mark.behaviour("GW-01", "RU-06")
async def test_claude_answers_from_its_container_through_the_gateway(
    api: StubMessagesApi, able: FullFeatureChannel, runtime: Runtime, tmp_path: Path
) -> None:
    """Two messages and a shell command, and the key nowhere in the session's files."""
    api.replies.extend(
        [
            ToolUse("mcp__nanohost__send_message", {"text": "one moment"}),
            ToolUse("Bash", {"command": SHELL_WORK, "description": "Try the shell"}),
            Text("the answer"),
        ]
    )
    async with claude(api, able, runtime, tmp_path) as flow:
        await able.person_writes("hello")
        sent = await able.wait_for_sent(2, LIMIT_S)
        calls = await model_calls.totals(flow.host.store.reports)
    assert [message.text for message in sent] == ["one moment", "the answer"]
    assert calls["calls"] == 3
    assert "42" in api.messages[2].user_text
    assert "fine" in api.messages[2].user_text
    written = [path for path in (tmp_path / "sessions").rglob("*") if path.is_file()]
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []


def reads(asked: RecordedRequest) -> ToolUse:
    """Script the model to read the file that came with the message."""
    found = re.search(r"\[file: [^,]+, [^,]+, at (\S+)\]", asked.user_text)
    assert found is not None, asked.user_text
    return ToolUse("Read", {"file_path": found[1]})


@pytest.mark.case("a scanned PDF of 3 MB read by the agent")
@pytest.mark.case("a photo of 6 MB sent by a person")
@pytest.mark.behaviour("IN-06", "RU-06")
async def test_a_scanned_pdf_and_a_photo_are_read_and_answered(
    api: StubMessagesApi, able: FullFeatureChannel, runtime: Runtime, tmp_path: Path
) -> None:
    able.files = {"letter": make_scanned_pdf(3_000_000), "photo": make_photo()}
    assert len(able.files["photo"]) > 6_000_000
    async with claude(api, able, runtime, tmp_path):
        api.replies.extend([reads, Text("It is from the landlord.")])
        await able.person_sends("what is in it?", Attachment(ref="letter", name="scan.pdf"))
        await able.wait_for_sent(1, LIMIT_S)
        api.replies.extend([reads, Text("A garden.")])
        await able.person_sends("and on this?", Attachment(ref="photo", name="IMG_0001.jpg"))
        await able.wait_for_sent(2, LIMIT_S)
    assert [message.text for message in able.sent] == ["It is from the landlord.", "A garden."]
    (kind, letter), (other, picture) = api.messages[-1].files
    assert (kind, letter == able.files["letter"]) == ("document", True)
    assert (other, len(picture) > 100_000) == ("image", True)


@pytest.mark.behaviour("IN-06", "RU-06")
async def test_the_largest_accepted_pdf_is_read_and_answered(
    api: StubMessagesApi, able: FullFeatureChannel, runtime: Runtime, tmp_path: Path
) -> None:
    able.files = {"book": make_scanned_pdf(20_000_000)}
    async with claude(api, able, runtime, tmp_path):
        api.replies.extend([reads, Text("A book.")])
        await able.person_sends("what is in it?", Attachment(ref="book", name="scan.pdf"))
        await able.wait_for_sent(1, LIMIT_S)
    assert [message.text for message in able.sent] == ["A book."]
    [(_, book)] = api.messages[-1].files
    assert book == able.files["book"]


@pytest.mark.behaviour("GW-01", "RU-06")
async def test_two_pdfs_too_large_for_one_request_are_read_and_answered(
    api: StubMessagesApi, able: FullFeatureChannel, runtime: Runtime, tmp_path: Path
) -> None:
    """The gateway refuses the request that holds both, and the command line shortens the conversation."""
    able.files = {"one": make_scanned_pdf(14_000_000), "two": make_scanned_pdf(14_000_001)}
    api.default = Text("A letter.")
    async with claude(api, able, runtime, tmp_path) as flow:
        for number, ref in enumerate(able.files, 1):
            api.replies.append(reads)
            await able.person_sends("what is in it?", Attachment(ref=ref, name="scan.pdf"))
            await able.wait_for_sent(number, LIMIT_S)
        failed = await flow.host.store.reports.fetch_all("SELECT error FROM model_calls WHERE status != 200")
    assert [message.text for message in able.sent] == ["A letter.", "A letter."]
    assert [row["error"] for row in failed] == [TOO_LARGE_ERROR]


@pytest.mark.case("a file of 1.3 MB written by the agent")
@pytest.mark.behaviour("RU-06")
async def test_an_agent_can_write_a_file_larger_than_a_mebibyte(
    api: StubMessagesApi, able: FullFeatureChannel, runtime: Runtime, tmp_path: Path
) -> None:
    text = "A word.\n" * 162_500
    api.replies.extend(
        [ToolUse("Write", {"file_path": "/workspace/agent/book.txt", "content": text}), Text("Written.")]
    )
    async with claude(api, able, runtime, tmp_path) as flow:
        await able.person_writes("write it down")
        await able.wait_for_sent(1, LIMIT_S)
        written = (flow.home.groups / "main" / "book.txt").read_text()
    assert [message.text for message in able.sent] == ["Written."]
    assert (len(written), written == text) == (1_300_000, True)


REFUSALS = {
    "a picture": (
        Failure(400, "invalid_request_error", "messages.3: this content cannot be processed"),
        NEW_CONVERSATION_NOTICE,
    ),
    "its size": (Failure(413, "request_too_large", "Request exceeds the maximum size"), CONTEXT_FULL_NOTICE),
}


def _is_not_begun_afresh(asked: RecordedRequest) -> bool:
    return "earlier-conversation" not in json.dumps(asked.body["messages"])


@pytest.mark.case("a history that the model refuses")
@pytest.mark.parametrize("why", REFUSALS)
async def test_a_history_that_the_api_refuses_is_reset_after_one_message(
    api: StubMessagesApi, able: FullFeatureChannel, runtime: Runtime, tmp_path: Path, why: str
) -> None:
    refusal, told = REFUSALS[why]
    able.files = {"photo": make_photo(800, 600)}
    api.default = Text("Yes.")
    async with claude(api, able, runtime, tmp_path) as flow:
        api.replies.extend([reads, Text("A garden.")])
        await able.person_sends("what is on it?", Attachment(ref="photo", name="IMG_0001.jpg"))
        await able.wait_for_sent(1, LIMIT_S)
        api.rules.append(Rule(_is_not_begun_afresh, refusal))
        await able.person_writes("is it yours?")
        await able.wait_for_sent(3, LIMIT_S)
        advice = await flow.status()
        await able.person_writes("and now?")
        await able.wait_for_sent(4, LIMIT_S)
    assert [message.text for message in able.sent] == ["A garden.", told, "Yes.", "Yes."]
    assert "begins a new one by itself; if it lasts: /clear in that chat" in advice


REACHING_OUT = "python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 5)' 2>&1 | tail -1"


@pytest.mark.behaviour("RU-13", "RU-14")
async def test_two_chats_of_an_agent_share_memory_and_have_no_network(
    api: StubMessagesApi, able: FullFeatureChannel, runtime: Runtime, tmp_path: Path
) -> None:
    """A note made in one chat is known in the other, because it is in their agent's folder; neither has web tools, and
    a shell command finds no network, as the prompt says."""
    note = {"file_path": "/workspace/agent/memory/MEMORY.md", "content": "- Ada takes her tea green\n"}
    reaching = ToolUse("Bash", {"command": REACHING_OUT, "description": "Try the network"})
    api.replies.extend([ToolUse("Write", note), Text("noted"), reaching, Text("green")])
    async with claude(api, able, runtime, tmp_path) as flow:
        await flow.wire("c2")
        await able.person_writes("I take my tea green", chat="c1")
        await able.wait_for_sent(1, LIMIT_S)
        await able.person_writes("what tea do I take?", chat="c2")
        await able.wait_for_sent(2, LIMIT_S)
        assert len(await flow.sessions("main")) == 2
    assert (tmp_path / "groups" / "main" / "memory" / "MEMORY.md").read_text() == note["content"]
    asked = api.messages[2]
    assert "Ada takes her tea green" in json.dumps(asked.body["messages"])
    assert not {"WebFetch", "WebSearch"} & set(asked.tool_names)
    assert "has no network" in json.dumps(asked.body["system"])
    assert "unreachable" in api.messages[3].user_text
