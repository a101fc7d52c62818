"""kill -9 of the host or of a container, at any moment of a run of messages: nothing lost, nothing answered twice."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from tests.crash.platform import Platform
from tests.crash.victims import HostProcess

MESSAGES = 200
CHATS = 4
HOST_KILLS = 5
RUNNER_KILLS = 6
EVERY_S = 0.05
SETTLE_LIMIT_S = 90.0
SCRIPT = [
    {
        "match": "tool",
        "actions": [
            {"tool": "send_message", "arguments": {"text": "sent: {text}"}},
            {"sleep_s": 0.05},
            {"answer": "echo: {text}"},
        ],
    },
    {"match": ".", "actions": [{"sleep_s": 0.02}, {"answer": "echo: {text}"}]},
]


def _text(number: int) -> str:
    return f"tool {number}" if number % 10 == 0 else f"message {number}"


def _expected() -> dict[tuple[str, str], int]:
    """What people should have seen in the end: each once."""
    seen = {}
    for number in range(MESSAGES):
        chat = f"c{number % CHATS}"
        seen[chat, f"echo: {_text(number)}"] = 1
        if number % 10 == 0:
            seen[chat, f"sent: {_text(number)}"] = 1
    return seen


async def _people_write(platform: Platform) -> None:
    for number in range(MESSAGES):
        platform.write(f"m{number}", f"c{number % CHATS}", _text(number))
        await asyncio.sleep(EVERY_S)


async def _kill_hosts(host: HostProcess, chance: random.Random) -> None:
    for _ in range(HOST_KILLS):
        await asyncio.sleep(chance.uniform(0.8, 2.0))
        await asyncio.to_thread(host.kill)
        host.start()


async def _kill_runners(host: HostProcess, chance: random.Random) -> int:
    kills = 0
    for _ in range(RUNNER_KILLS):
        await asyncio.sleep(chance.uniform(0.5, 1.5))
        kills += await asyncio.to_thread(host.kill_a_runner, chance)
    return kills


@pytest.mark.behaviour("IN-01", "IN-02", "SE-01", "SE-07", "RU-03", "RU-08", "DL-01", "DL-02")
@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_or_answered_twice(
    request: pytest.FixtureRequest, tmp_path: Path, runtime: str, seed: int
) -> None:
    if runtime == "docker":
        request.getfixturevalue("docker_engine")
    chance = random.Random(seed)
    platform = Platform()
    async with platform.opened():
        host = HostProcess(tmp_path / "home", platform.port, runtime=runtime)
        try:
            _wire(host)
            host.start()
            _, _, killed = await asyncio.gather(
                _people_write(platform), _kill_hosts(host, chance), _kill_runners(host, chance)
            )
            expected = _expected()
            await _settle(platform, len(expected))
            assert dict(platform.seen_counts()) == expected
            assert len(platform.acknowledged) == MESSAGES
            assert (host.kills, killed > 0) == (HOST_KILLS, True)
            assert await asyncio.to_thread(host.stop) == 0
            _assert_verified(host)
        finally:
            host.end()


def _wire(host: HostProcess) -> None:
    made = host.command("groups", "create", "main")
    assert made.returncode == 0, made.stderr
    (host.root / "groups" / "main" / "script.json").write_text(json.dumps(SCRIPT))
    for number in range(CHATS):
        words = ["--channel", "wire", "--chat", f"c{number}", "--group", "main", "--unknown", "public"]
        wired = host.command("wirings", "create", *words)
        assert wired.returncode == 0, wired.stderr


async def _settle(platform: Platform, count: int) -> None:
    try:
        await platform.until_seen(count, SETTLE_LIMIT_S)
    except TimeoutError:
        late = sorted(set(_expected()) - set(platform.seen))
        pytest.fail(f"after {SETTLE_LIMIT_S:.0f} s these never came: {late[:20]} ({len(late)} in all)")


def _assert_verified(host: HostProcess) -> None:
    verified = host.command("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
