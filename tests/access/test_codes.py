"""Codes: what looks like one, and everything that somebody may try with one that is not theirs."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.access.codes import Typed, Word, issue, typed
from nanohost.store import codes, dropped
from nanohost.store.codes import Purpose
from nanohost.testing.manual_clock import ManualClock
from tests.access.hall import Hall, hall_in

ADA, BOB, EVE = "telegram:ada", "telegram:bob", "telegram:eve"
NONE = "A2B3-C4D5"
"""A code that nobody made."""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("K7QM-2X9P", Word.NONE),
        (" k7qm2x9p\n", Word.NONE),
        ("/pair k7qm-2X9P", Word.PAIR),
        ("/PAIR@nanohost_bot K7QM2X9P", Word.PAIR),
        ("/link  K7QM-2X9P ", Word.LINK),
        ("/start K7QM-2X9P", Word.START),
    ],
)
def test_a_code_is_read_with_or_without_its_dash_in_any_case_and_after_a_command(text: str, word: Word) -> None:
    assert typed(text) == Typed(code="K7QM2X9P", word=word)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "thankyou",
        "STANDARD",
        "20262345",
        "K7QM-2X9",
        "K7QM-2X9PQ",
        "K7-QM2X9P",
        "my code: K7QM-2X9P",
        "K7QM-2X9P please",
        "/start",
        "/start promo2026",
        "/pair telegram",
        "/stop K7QM-2X9P",
        "KIQM-2X9P",
        "K0QM-2X9P",
        "\uff2bQMX-2345",
        "K7QM-2X9P" * 100_000,
    ],
)
def test_words_and_numbers_are_no_codes(text: str) -> None:
    assert typed(text) is None


async def test_a_code_is_drawn_at_random_read_as_it_is_shown_and_kept_as_a_hash_alone(hall: Hall) -> None:
    shown = {await hall.pair() for _ in range(200)}
    assert len(shown) == 200
    for code in shown:
        assert re.fullmatch(r"[A-HJKMNP-Z2-9]{4}-[A-HJKMNP-Z2-9]{4}", code)
        assert typed(code) is not None
    dump = [tuple(row) for table in ("codes", "audit_log") for row in await hall.store.all(f"SELECT * FROM {table}")]
    assert not [code for code in shown if code in str(dump) or code.replace("-", "") in str(dump)]


@pytest.mark.behaviour("AC-03")
async def test_a_code_is_old_after_fifteen_minutes(hall: Hall) -> None:
    code = await hall.pair()
    await hall.clock.advance(15 * 60)
    assert await hall.write(ADA, code)
    assert await hall.told(ADA) == ["That code is too old; have a new one made."]
    assert not await hall.is_owner(ADA)
    assert await hall.write(ADA, await hall.pair()), "and the new one is looked at"
    assert await hall.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_a_code_works_once(hall: Hall) -> None:
    code = await hall.pair()
    await hall.write(ADA, code)
    assert await hall.write(EVE, code)
    assert await hall.told(EVE) == ["That code was used before; each works once."]
    assert not await hall.is_owner(EVE)


async def test_of_two_who_type_a_code_at_once_one_is_meant(hall: Hall) -> None:
    code = await hall.pair()
    await asyncio.gather(hall.write(ADA, code), hall.write(BOB, code))
    assert [await hall.is_owner(ADA), await hall.is_owner(BOB)].count(True) == 1
    assert len(await hall.record("roles.create")) == 1


async def test_whoever_holds_an_old_code_is_told_once(hall: Hall) -> None:
    code = await hall.pair()
    await hall.clock.advance(16 * 60)
    for _ in range(5):
        assert await hall.write(EVE, code)
    assert len(await hall.told(EVE)) == 1


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("before", ["", "/pair ", "/start "])
async def test_a_wrong_code_voids_those_that_are_open(hall: Hall, before: str) -> None:
    first, second = await hall.pair("telegram"), await hall.pair("slack")
    assert await hall.write(EVE, before + NONE)
    [said] = await hall.told(EVE)
    assert "All that were open are void" in said
    assert "13:00" in said
    for code, user in ((first, ADA), (second, "slack:ada")):
        await hall.write(user, code)
        assert await hall.told(user) == ["That code is void; have a new one made."]
        assert not await hall.is_owner(user)
    [guess] = await hall.record("codes.guess")
    assert (guess.who, guess.outcome, guess.details) == (EVE, "refused", {"voided": 2})


async def test_a_wrong_code_for_linking_voids_no_code_for_owners(hall: Hall) -> None:
    code = await hall.pair()
    await hall.write(EVE, f"/link {NONE}")
    await hall.write(ADA, code)
    assert await hall.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_a_flood_of_guesses_is_one_answer_one_entry_and_a_count(hall: Hall) -> None:
    await hall.pair()
    await hall.write(EVE, NONE)
    code = await hall.pair()
    for guess in range(50):
        assert await hall.write(EVE, f"/pair A2B3-C4{guess // 10 + 2}{guess % 8 + 2}")
    assert await hall.write(EVE, code), "the right one neither: it would be the fifty-second guess"
    assert not await hall.is_owner(EVE)
    assert len(await hall.told(EVE)) == 1
    assert len(await hall.record("codes.guess")) == 1
    [counted] = await dropped.latest(hall.store, limit=10, user=EVE)
    assert counted.count == 51
    await hall.write(ADA, code)
    assert await hall.is_owner(ADA), "whoever is silent voids nothing"


async def test_the_silence_ends_after_the_hour_that_was_said_however_often_they_tried(hall: Hall) -> None:
    await hall.write(ADA, f"/pair {NONE}")
    for _ in range(5):
        await hall.clock.advance(12 * 60 - 1)
        await hall.write(ADA, f"/pair {NONE}")
    await hall.clock.advance(6)
    await hall.write(ADA, await hall.pair())
    assert await hall.is_owner(ADA)


async def test_the_machine_says_who_is_not_heard_and_what_to_do(hall: Hall) -> None:
    await hall.write(ADA, f"/pair {NONE}")
    await hall.write("slack:eve", f"/pair {NONE}")
    shown = await hall.reads("pair", channel="telegram")
    assert shown.splitlines()[-2:] == [
        "Not listened to for an hour after a wrong code: telegram:ada.",
        "If that was you: nanohost roles grant telegram:ada owner",
    ]


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("before", ["", "/pair "])
async def test_a_code_in_a_group_is_void_because_others_read_it(hall: Hall, before: str) -> None:
    code = await hall.pair()
    assert await hall.write(ADA, before + code, group="family")
    [said] = await hall.told("telegram:family")
    assert "void" in said
    await hall.write(EVE, code)
    assert await hall.told(EVE) == ["That code is void; have a new one made."]
    assert not await hall.is_owner(ADA)
    assert not await hall.is_owner(EVE)


async def test_what_is_no_open_code_in_a_group_is_a_message_like_any_other(hall: Hall) -> None:
    code = await hall.pair()
    assert not await hall.write(EVE, NONE, group="family")
    assert not await hall.write(EVE, f"/pair {NONE}", group="family")
    assert await hall.told("telegram:family") == []
    await hall.write(ADA, code)
    assert await hall.is_owner(ADA)
    assert not await hall.write(EVE, code, group="family"), "nobody waits for a used one"


async def test_a_bot_types_no_codes(hall: Hall) -> None:
    code = await hall.pair()
    assert not await hall.write("telegram:robot", code, bot=True)
    assert not await hall.is_owner("telegram:robot")
    await hall.write(ADA, code)
    assert await hall.is_owner(ADA)


async def test_a_text_like_a_code_is_an_ordinary_message_while_nobody_waits_for_one(hall: Hall) -> None:
    assert not await hall.write(EVE, NONE)
    assert not await hall.write(EVE, f"/start {NONE}")
    await hall.pair()
    assert not await hall.write(EVE, "standard")
    await hall.clock.advance(16 * 60)
    assert not await hall.write(EVE, NONE), "the open one is too old"
    assert await hall.told(EVE) == []


@pytest.mark.behaviour("AC-03")
async def test_a_code_belongs_to_its_channel(hall: Hall) -> None:
    code = await hall.pair("telegram")
    assert await hall.write("slack:eve", code)
    assert await hall.told("slack:eve") == ["That code is for telegram: write it to me there."]
    assert not await hall.is_owner("slack:eve")
    await hall.write(ADA, code)
    assert await hall.is_owner(ADA)


async def test_a_newer_code_takes_the_place_of_the_older_one(hall: Hall) -> None:
    first = await hall.pair()
    second = await hall.pair()
    await hall.write(ADA, first)
    assert await hall.told(ADA) == ["That code is void; have a new one made."]
    await hall.write(ADA, second)
    assert await hall.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_codes_and_guesses_outlive_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    async with hall_in(tmp_path, clock) as before:
        await before.write(EVE, f"/pair {NONE}")
        code = await before.pair()
    async with hall_in(tmp_path, clock) as after:
        assert await after.write(EVE, code)
        assert not await after.is_owner(EVE)
        await after.write(ADA, code)
        assert await after.is_owner(ADA)


async def test_old_codes_and_guesses_are_forgotten(hall: Hall) -> None:
    for _ in range(3):
        await hall.pair()
    await hall.write(EVE, f"/pair {NONE}")
    await hall.clock.advance(timedelta(days=2).total_seconds())
    async with hall.store.transaction() as tx:
        await codes.forget(tx, hall.clock.now())
    assert await hall.store.all("SELECT * FROM codes") == []
    assert await hall.store.all("SELECT * FROM code_guesses") == []


async def test_each_purpose_has_its_time(hall: Hall) -> None:
    now = hall.clock.now()
    async with hall.store.transaction() as tx:
        made = [
            await issue(tx, one, channel_type=None, user_id=ADA, created_by=ADA, origin="", now=now) for one in Purpose
        ]
    assert [one.expires_at - now for one in made] == [timedelta(minutes=15), timedelta(minutes=10)]


async def test_a_disk_that_refuses_the_answer_leaves_the_code_as_it_was(hall: Hall) -> None:
    code = await hall.pair()
    async with hall.store.transaction() as tx:
        await tx.run("CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(sqlite3.IntegrityError):
        await hall.write("telegram:ada", code)
    assert not await hall.is_owner("telegram:ada")
    assert await hall.record("codes.use") == []
    async with hall.store.transaction() as tx:
        await tx.run("DROP TRIGGER full")
    assert await hall.write("telegram:ada", code)
    assert await hall.is_owner("telegram:ada")
