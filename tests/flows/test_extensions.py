"""Extensions, each one file of an install: a real host and a real runner load it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nanohost.app import running_host
from nanohost.chat_commands.menu import build_menu
from nanohost.commands.sessions import stop_without_host
from nanohost.config.home import Home, lock_home
from nanohost.config.settings import Settings, load_settings
from nanohost.db.open import open_home_store
from nanohost.errors import RuntimeUnavailable
from nanohost.host import Overrides
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.docker_image import ensure_image
from nanohost.runtimes.runtime_api import Runtime
from nanohost.testing.fake_channel import FakeChannel
from tests.flows.host_fixture import HostTestEnv
from tests.flows.test_held_requests import DM, hosted, press, wait_for_message
from tests.support.container_engines import docker_engine, podman_engine, podman_image
from tests.support.flow import FAKE_CHANNEL, SCRIPTED_HOST_SETTINGS, RunningHost, install_id_for, scripted_settings
from tests.support.how_to import read_example
from tests.support.invariants import wait_until
from tests.support.requirements import skip_or_fail

__all__ = ["docker_engine", "podman_engine", "podman_image"]

CONTAINER_LIMIT_S = 60.0


def put(root: Path, name: str, source: str) -> Path:
    """Write a file of an install."""
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return path


def configured(root: Path, sections: str = "", **host: str) -> Settings:
    """Settings from the nanohost.toml of an install: scripted agents, and these lines."""
    values = SCRIPTED_HOST_SETTINGS | host
    lines = ["[host]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()), sections]
    put(root, "nanohost.toml", "\n".join(lines))
    return load_settings(root, {})


@pytest.mark.behaviour("EX-01")
async def test_a_provider_is_one_file_in_the_install(host_env_with_events: HostTestEnv) -> None:
    put(host_env_with_events.root, "providers/parrot.py", read_example("add-a-provider.md"))
    async with host_env_with_events.run_host({"provider": "parrot"}) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hello")
        [answer] = await host_env_with_events.fake.wait_for_sent(1)
    assert answer.text == "hello! hello!"


@pytest.fixture(
    params=[
        pytest.param("docker_engine", marks=pytest.mark.docker, id="docker"),
        pytest.param("podman_image", marks=pytest.mark.podman, id="podman"),
        pytest.param(None, marks=pytest.mark.bubblewrap, id="bubblewrap"),
    ]
)
async def walls(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    """Each runtime with isolation."""
    if request.param is not None:
        request.getfixturevalue(request.param)
        return DockerRuntime(install=install_id_for(tmp_path), image=await ensure_image(progress=lambda _: None))
    sandbox = BubblewrapRuntime(install=install_id_for(tmp_path))
    try:
        sandbox.check()
    except RuntimeUnavailable as error:
        skip_or_fail("BUBBLEWRAP", str(error))
    return sandbox


WRITES = """
import errno

def tried():
    try:
        open(__file__ + ".new", "w")
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"
"""


@pytest.mark.behaviour("EX-01")
async def test_a_sandboxed_runner_reads_a_providers_file_and_cannot_write_beside_it(
    host_env_with_events: HostTestEnv, walls: Runtime
) -> None:
    """A provider that does not declare that it may run unsandboxed."""
    source = read_example("add-a-provider.md").replace('# unsandboxed = "always"\n', "")
    source = source.replace("{message.text}! {message.text}!", "{message.text} {tried()}") + WRITES
    put(host_env_with_events.root, "providers/parrot.py", source).parent.chmod(0o777)
    async with host_env_with_events.run_host({"provider": "parrot"}, runtime=walls) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hello")
        [answer] = await host_env_with_events.fake.wait_for_sent(1, CONTAINER_LIMIT_S)
    assert answer.text == "hello EROFS"


COUNTS = [{"match": "", "actions": [{"tool": "count_words", "arguments": {"text": "{text}"}, "answer": "{result}"}]}]


@pytest.mark.behaviour("EX-03")
async def test_a_tool_is_one_file_in_the_install(host_env_with_events: HostTestEnv) -> None:
    put(host_env_with_events.root, "tools/count_words.py", read_example("add-a-tool.md"))
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=COUNTS)
        await host_env_with_events.fake.person_writes("one two three")
        [answer] = await host_env_with_events.fake.wait_for_sent(1)
    assert answer.text == "3 words."


@pytest.mark.behaviour("EX-03")
async def test_a_tool_that_cannot_be_imported_does_not_affect_others(host_env_with_events: HostTestEnv) -> None:
    put(host_env_with_events.root, "tools/broken.py", "import no_such_module")
    put(host_env_with_events.root, "tools/count_words.py", read_example("add-a-tool.md"))
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=COUNTS)
        await host_env_with_events.fake.person_writes("one two three")
        [answer] = await host_env_with_events.fake.wait_for_sent(1)
        log = "".join(path.read_text() for path in flow.layout(await flow.session()).log_dir.iterdir())
    assert answer.text == "3 words."
    assert "tool_load_failed" in log
    assert "No module named 'no_such_module'" in log


TOLD = {"match": "^.*Your request", "actions": [{"answer": "told: {text}"}]}
ASKS = [TOLD, {"match": "", "actions": [{"ask_host": "agent.rename", "arguments": {"name": "{text}"}}]}]
ASKS_BY_TOOL = [TOLD, {"match": "", "actions": [{"tool": "rename", "arguments": {"name": "{text}"}}]}]


@pytest.mark.behaviour("EX-04")
async def test_an_action_that_needs_approval_is_one_file_in_the_install(tmp_path: Path) -> None:
    put(tmp_path, "actions/rename.py", read_example("add-an-action.md"))
    async with hosted(tmp_path) as (flow, fake):
        await flow.wire(script=ASKS)
        await fake.person_writes("Ada")
        card = await wait_for_message(fake, DM, card=True)
        before = (await flow.ensure_group()).name
        await press(fake, card, "Allow")
        told = await wait_for_message(fake, "c1", "told: ")
        after = (await flow.ensure_group()).name
    assert "Be called `Ada`" in card.text
    assert (before, after) == ("main", "Ada")
    assert told.text == "told: Your request agent.rename was approved and is done. People read Ada now."


@pytest.mark.behaviour("EX-04")
async def test_the_operator_may_deny_an_action_requested_by_an_installed_tool(tmp_path: Path) -> None:
    put(tmp_path, "actions/rename.py", read_example("add-an-action.md"))
    put(tmp_path, "tools/rename.py", read_example("add-an-action.md", 1))
    async with hosted(tmp_path, guard={"agent.rename": "deny"}) as (flow, fake):
        await flow.wire(script=ASKS_BY_TOOL)
        await fake.person_writes("Ada")
        told = await wait_for_message(fake, "c1", "told: ")
    assert "Your request agent.rename was refused" in told.text


@pytest.mark.behaviour("EX-05")
async def test_a_chat_command_is_one_file_in_the_install(host_env_with_events: HostTestEnv) -> None:
    put(host_env_with_events.root, "chat_commands/since.py", read_example("add-a-chat-command.md"))
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("/since")
        await host_env_with_events.fake.person_writes("/help")
        since, told = await host_env_with_events.fake.wait_for_sent(2)
        began = (await flow.session()).created_at
        offered = {one.name for one in build_menu()}
    assert since.text == f"We have been talking since {began:%Y-%m-%d %H:%M}."
    assert "/since: say when this conversation began" in told.text
    assert "since" in offered
    assert "since" not in {one.name for one in build_menu()}, "it is this install's"


@pytest.mark.behaviour("EX-06")
async def test_a_channel_is_one_file_in_the_install(tmp_path: Path) -> None:
    put(tmp_path, "channels/lines.py", read_example("add-a-channel.md"))
    folder, home = tmp_path / "chat", Home(tmp_path)
    settings = configured(tmp_path, f'[channels.lines]\nfolder = "{folder}"\n')
    with lock_home(home):
        async with running_host(home, settings, keep_containers=False) as host:
            flow = RunningHost(host=host, fake=FakeChannel(), home=home)
            await flow.wire("file", channel=("lines", "default"))
            folder.mkdir(exist_ok=True)
            (folder / "in.txt").write_text("hello\n")
            await wait_until(lambda: (folder / "out.txt").exists() and "\n" in (folder / "out.txt").read_text())
    assert (folder / "out.txt").read_text() == "echo: hello\n"


@pytest.mark.behaviour("EX-02")
async def test_a_runtime_is_one_file_in_the_install(tmp_path: Path) -> None:
    put(tmp_path, "runtimes/patient.py", read_example("add-a-runtime.md"))
    home, fake = Home(tmp_path), FakeChannel()
    settings = configured(tmp_path, runtime="patient")
    with lock_home(home):
        async with running_host(
            home, settings, keep_containers=False, overrides=Overrides(channels={FAKE_CHANNEL: fake})
        ) as host:
            flow = RunningHost(host=host, fake=fake, home=home)
            await flow.wire()
            await fake.person_writes("hello")
            [answer] = await fake.wait_for_sent(1)
            [container] = await flow.containers()
            priority = os.getpriority(os.PRIO_PROCESS, int(container.state["pid"]))
            session = await flow.session()
    assert (answer.text, session.runtime, priority) == ("echo: hello", "patient", 19)


@pytest.mark.behaviour("EX-02")
async def test_containers_of_an_installed_runtime_can_be_stopped_without_a_host(tmp_path: Path) -> None:
    put(tmp_path, "runtimes/patient.py", read_example("add-a-runtime.md"))
    home, fake = Home(tmp_path), FakeChannel()
    settings = scripted_settings(runtime="patient")
    with lock_home(home):
        async with running_host(
            home, settings, keep_containers=True, overrides=Overrides(channels={FAKE_CHANNEL: fake})
        ) as host:
            flow = RunningHost(host=host, fake=fake, home=home)
            await flow.wire()
            await fake.person_writes("hello")
            await fake.wait_for_sent(1)
            session = await flow.session()
        async with open_home_store(home, durable=False) as store:
            assert await stop_without_host(store, home.root, session) == [session.id]
