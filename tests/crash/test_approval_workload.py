"""The approval workload detects what goes wrong: a check that never fails is useless."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.approval_workload import OWNERS_DM, ApprovalWorkload, MessageKind, prepare_home
from tests.crash.platform import DeliveredCopy, FakePlatform
from tests.crash.runs import run_host_kills_at

BUTTONS = [{"label": "Allow once", "value": "v1"}, {"label": "Deny", "value": "v2"}]


@pytest.fixture
async def scene(tmp_path: Path) -> tuple[FakePlatform, ApprovalWorkload, Path]:
    """One message that makes the agent request a held action, of which nothing is done yet."""
    await prepare_home(tmp_path)
    platform = FakePlatform()
    people = ApprovalWorkload(platform, frequent_kind=MessageKind.HELD_ACTION)
    people.write()
    return platform, people, tmp_path


def anomalies(scene: tuple[FakePlatform, ApprovalWorkload, Path], words: str) -> list[str]:
    _, people, root = scene
    return [one for one in people.find_anomalies(root) if words in one]


async def test_a_request_with_no_card_or_two_is_reported(
    scene: tuple[FakePlatform, ApprovalWorkload, Path],
) -> None:
    platform, _, _ = scene
    assert anomalies(scene, "0 cards ask about hold 0")
    for key in ("k1", "k1", "k2"):
        platform.seen.append(DeliveredCopy(OWNERS_DM, "asks for later hold 0", key, buttons=True))
    assert anomalies(scene, "2 cards ask about hold 0")


async def test_a_card_still_open_at_the_end_is_reported(
    scene: tuple[FakePlatform, ApprovalWorkload, Path],
) -> None:
    platform, _, _ = scene
    card = DeliveredCopy(OWNERS_DM, "asks for later hold 0", "k1", buttons=True)
    platform.seen.append(card)
    assert anomalies(scene, "still asks: hold 0")
    card.edits.append("**Make a task** (`k3f7qd`)\nApproved by `Olga`, 09:00: main may do it this once.")
    assert not anomalies(scene, "hold 0")


async def test_a_duplicate_effect_is_reported(scene: tuple[FakePlatform, ApprovalWorkload, Path]) -> None:
    _, _, root = scene
    assert not anomalies(scene, "FROM roles")
    with closing(sqlite3.connect(root / "data" / "nanohost.db")) as db, db:
        db.execute(
            "INSERT INTO roles (user_id, role, agent_group_id, granted_at) VALUES ('wire:guest1', 'member', 1, 'now')"
        )
    assert anomalies(scene, "1 instead of 0: SELECT count(*) FROM roles")


async def test_an_unexpected_message_is_reported(scene: tuple[FakePlatform, ApprovalWorkload, Path]) -> None:
    platform, _, _ = scene
    platform.seen.append(DeliveredCopy("c0", "Your request tasks.create was refused.", "k1"))
    assert anomalies(scene, "nobody was to read in c0")


@pytest.mark.behaviour("AP-07", "AP-08", "AP-09")
async def test_a_host_killed_during_decisions_asks_decides_and_closes_each_request_once(tmp_path: Path) -> None:
    result = await run_host_kills_at("approvals.open", tmp_path / "home", kills=3)
    assert result.is_sound, result
    assert (result.kills, result.ambiguous_extra) == (3, 0)
