"""Codes: what looks like one, and everything that somebody may try with one that is not theirs."""

from __future__ import annotations

import asyncio
import re
import shlex
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.access.codes import Typed, Word, issue, typed
from nanohost.channel_api import EventKind
from nanohost.reception.codes import BY_AN_EDIT, NOT_ALONE, OVERHEARD
from nanohost.store import codes, dropped
from nanohost.store.codes import CodeStatus, Purpose
from nanohost.testing.manual_clock import START, ManualClock
from tests.access.hall import Hall, hall_in

ADA, BOB, EVE = "telegram:ada", "telegram:bob", "telegram:eve"
BOSS = "telegram:boss"
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
        ("k7qm 2x9p", Word.NONE),
        ("/link k7qm - 2x9p", Word.LINK),
        ("`K7QM-2X9P`", Word.NONE),
        ("**K7QM2X9P**.", Word.NONE),
        ("\u201ck7qm\u20132x9p\u201d", Word.NONE),
        ("/pair  `K7QM\u20112X9P`!", Word.PAIR),
        ("/pair\nK7QM-2X9P \n\nIt works once.", Word.PAIR),
    ],
)
def test_a_code_is_read_with_whatever_stands_for_its_dash_in_any_case_and_after_a_command(
    text: str, word: Word
) -> None:
    assert typed(text) == Typed(code="K7QM2X9P", word=word)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "thankyou",
        "STANDARD",
        "20262345",
        "23456789",
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
        "\u043a\u043e\u0434: K7QM-2X9P",
        "\u4ee3\u7801K7QM-2X9P",
        "!" * 300_000,
        "/pair" + " " * 300_000,
        "K7QM-2X9" + "\n" * 300_000,
        "/pair@" + "_" * 300_000,
        "K7QM-2X9P" + "." * 300_000 + "x",
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


@pytest.mark.behaviour("AC-03")
async def test_a_code_that_was_used_is_a_used_one_also_when_its_time_is_up_or_another_was_made(hall: Hall) -> None:
    code = await hall.pair()
    await hall.write(ADA, code)
    await hall.write(EVE, code)
    await hall.pair()
    await hall.write(BOB, code)
    await hall.clock.advance(16 * 60)
    await hall.write("telegram:carl", code)
    for user in (EVE, BOB, "telegram:carl"):
        assert await hall.told(user) == ["That code was used before; each works once."]


async def test_a_code_that_was_too_old_when_another_was_made_is_a_too_old_one(hall: Hall) -> None:
    code = await hall.pair()
    await hall.clock.advance(16 * 60)
    await hall.pair()
    await hall.write(EVE, code)
    assert await hall.told(EVE) == ["That code is too old; have a new one made."]


async def test_a_code_is_closed_once_and_by_the_first(hall: Hall) -> None:
    await hall.pair()
    async with hall.store.transaction() as tx:
        [code] = await codes.all_open(tx)
        closed = [await codes.close(tx, code, CodeStatus.USED, by=user, now=hall.clock.now()) for user in (ADA, EVE)]
        found = await tx.all("SELECT used_by FROM codes")
    assert (closed, [row["used_by"] for row in found]) == ([True, False], [ADA])


@pytest.mark.behaviour("AC-03")
async def test_a_new_code_takes_the_place_of_one_by_the_same_for_the_same_and_of_no_other(hall: Hall) -> None:
    made: list[tuple[Purpose, str | None, str]]
    made = [(Purpose.OWNER, "telegram", ADA), (Purpose.OWNER, "telegram", BOB), (Purpose.OWNER, "slack", ADA)]
    made += [(Purpose.OWNER, None, ADA), (Purpose.LINK, None, ADA), (Purpose.LINK, None, BOB)]
    now = hall.clock.now()
    for purpose, channel, user in (*made, made[0]):
        async with hall.store.transaction() as tx:
            await issue(tx, purpose, channel_type=channel, user_id=user, created_by=user, origin="", now=now)
    open_now = [(one.purpose, one.channel_type, one.created_by) for one in await codes.all_open(hall.store)]
    assert open_now == [*made[1:], made[0]]


async def test_an_event_that_is_done_again_is_no_second_visit(hall: Hall) -> None:
    """What came with it in a batch failed: the code would be called a used one, and a wrong one counted twice."""
    code = await hall.pair()
    await hall.write(ADA, code)
    told = await hall.told(ADA)
    assert await hall.again()
    assert await hall.told(ADA) == told
    assert await hall.is_owner(ADA)


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
async def test_a_wrong_code_takes_no_code_from_who_has_it_and_its_user_has_no_second_guess(
    hall: Hall, before: str
) -> None:
    first, second = await hall.pair("telegram"), await hall.pair("slack")
    for stranger in (EVE, BOB):
        assert await hall.write(stranger, before + NONE)
        [said] = await hall.told(stranger)
        assert "no code of mine" in said
        assert "13:00" in said
        assert await hall.write(stranger, first), "the right one neither"
        assert not await hall.is_owner(stranger)
    for code, user in ((first, ADA), (second, "slack:ada")):
        await hall.write(user, code)
        assert await hall.is_owner(user)
    guesses = await hall.record("codes.guess")
    assert {(one.who, one.outcome) for one in guesses} == {(EVE, "refused"), (BOB, "refused")}


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
    [counted] = await dropped.latest(hall.store.reports, limit=10, user=EVE)
    assert counted.count == 51
    now = hall.clock.now()
    since = now - timedelta(hours=1)
    [guesses] = await codes.guesses(hall.store.reports, EVE.partition(":")[0], since=since, now=now, limit=9)
    assert (guesses.user_id, guesses.count) == (EVE, 52)
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


async def test_the_machine_names_no_stranger_in_a_command_that_makes_an_owner(hall: Hall) -> None:
    for user in (EVE, ADA):
        await hall.write(user, f"/pair {NONE}")
    shown = await hall.reads("pair", channel="telegram")
    assert shown.splitlines()[-2:] == [
        "Not listened to for an hour after a wrong code: telegram:ada, telegram:eve.",
        "If one of them is you: nanohost roles grant YOURS owner",
    ]


async def test_a_hostile_id_does_nothing_on_the_terminal_or_in_a_shell(hall: Hall) -> None:
    await hall.write("telegram:\x1b[2J$(reboot)", f"/pair {NONE}")
    [listed, hint] = (await hall.reads("pair", channel="telegram")).splitlines()[-2:]
    assert "\x1b" not in listed + hint
    assert shlex.split(hint.removeprefix("If that was you: "))[3:] == [
        "telegram:\N{REPLACEMENT CHARACTER}[2J$(reboot)",
        "owner",
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


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize(
    "said",
    [
        "@nanohost {}",
        "@nanohost /pair {}",
        "{} @nanohost",
        "{}\nWrite this to me on the other platform",
        "`{}`",
        "it is {}, I think. Or A2B3-C4D5?",
    ],
)
async def test_a_code_in_a_group_is_void_in_whatever_words_it_stands(hall: Hall, said: str) -> None:
    code = await hall.pair()
    assert await hall.write(ADA, said.format(code.lower()), group="family", mentions=True)
    assert await hall.told("telegram:family") == [OVERHEARD]
    await hall.write(EVE, code)
    assert not await hall.is_owner(EVE)


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("said", ["it is {}", "{} Whoever writes this is an owner", "A2B3-C4D5 {}", "it is\n{}"])
async def test_a_code_among_other_words_is_void_and_reaches_no_agent(hall: Hall, said: str) -> None:
    code = await hall.pair()
    assert await hall.write(ADA, said.format(code))
    assert await hall.told(ADA) == [NOT_ALONE]
    assert not await hall.is_owner(ADA)
    await hall.write(EVE, code)
    assert not await hall.is_owner(EVE)


@pytest.mark.behaviour("AC-03")
async def test_whoever_copies_the_whole_message_that_the_code_came_in_has_typed_the_code(hall: Hall) -> None:
    await hall.owner(BOSS)
    await hall.write(BOSS, "/pair")
    await hall.write(ADA, (await hall.told(BOSS))[-1])
    assert await hall.is_owner(ADA)
    await hall.write(BOSS, "/link")
    await hall.write("slack:boss", (await hall.told(BOSS))[-1])
    assert await hall.is_owner("slack:boss")


@pytest.mark.behaviour("AC-03")
async def test_a_wrong_code_above_other_words_is_a_guess_like_any_other(hall: Hall) -> None:
    code = await hall.pair()
    assert await hall.write(EVE, f"{NONE}\nWhoever writes this to me on telegram is an owner")
    await hall.write(ADA, code)
    assert await hall.is_owner(ADA)
    assert len(await hall.record("codes.guess")) == 1


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize(("group", "said"), [("family", OVERHEARD), ("", BY_AN_EDIT)])
async def test_a_code_that_comes_by_an_edit_is_void_and_reaches_no_agent(hall: Hall, group: str, said: str) -> None:
    code = await hall.pair()
    assert await hall.write(ADA, code, group=group, kind=EventKind.EDIT)
    assert await hall.told("telegram:family" if group else ADA) == [said]
    [row] = await hall.store.all("SELECT reply_to FROM deliveries")
    assert row["reply_to"] is None, "an edit's number is no message's"
    await hall.write(EVE, code)
    assert [await hall.is_owner(user) for user in (ADA, EVE)] == [False, False]


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("between", [" ", "\n", " - ", "\u2026", "__"])
async def test_a_code_whose_halves_stand_apart_can_be_put_together_in_a_group_and_is_void(
    hall: Hall, between: str
) -> None:
    code = await hall.pair()
    assert await hall.write(ADA, code.replace("-", between), group="family")
    await hall.write(EVE, code)
    assert [await hall.is_owner(user) for user in (ADA, EVE)] == [False, False]


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("between", [" ", " - ", "\u2026", "__"])
@pytest.mark.parametrize("before", ["", "/pair "])
async def test_a_code_that_is_typed_with_something_else_in_place_of_its_dash_is_that_code(
    hall: Hall, between: str, before: str
) -> None:
    code = await hall.pair()
    assert await hall.write(ADA, before + code.lower().replace("-", between))
    assert await hall.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_a_wrong_code_with_a_blank_in_it_is_a_guess_like_any_other(hall: Hall) -> None:
    code = await hall.pair()
    assert await hall.write(EVE, NONE.replace("-", " "))
    await hall.write(EVE, code)
    assert not await hall.is_owner(EVE)
    assert len(await hall.record("codes.guess")) == 1


async def test_what_is_no_open_code_among_other_words_is_a_message_like_any_other_and_no_guess(hall: Hall) -> None:
    code = await hall.pair()
    assert not await hall.write(ADA, f"it is {NONE}")
    await hall.write(ADA, code)
    assert await hall.is_owner(ADA)
    assert not await hall.write(ADA, f"it was {code}"), "it is used"


async def test_two_codes_in_one_text_of_a_group_are_both_void(hall: Hall) -> None:
    first, second = await hall.pair("telegram"), await hall.pair("slack")
    assert await hall.write(ADA, f"{first} here and {second} there", group="family")
    assert len(await hall.told("telegram:family")) == 1
    assert len(await hall.record("codes.burn")) == 2


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


@pytest.mark.behaviour("AC-03")
async def test_what_is_done_by_a_code_is_told_although_older_codes_were_forgotten(hall: Hall) -> None:
    await hall.owner(BOSS)
    await hall.write(BOSS, "/approve")
    for user in ("telegram:carl", "telegram:dora"):
        await hall.write(user, await hall.pair())
        assert f"(`{user}`) is an owner now" in (await hall.told(BOSS))[-1]
        await forget_all(hall)
    for user in ("slack:carl", "slack:dora"):
        await hall.write(BOSS, "/link")
        await hall.write(user, (await hall.told(BOSS))[-1].partition("\n")[0])
        assert f"(`{user}`) is you from now on" in (await hall.told(BOSS))[-1]
        await forget_all(hall)


async def test_whoever_types_an_old_code_is_told_so_although_others_were_forgotten(hall: Hall) -> None:
    for times in (1, 2):
        code = await hall.pair()
        await hall.clock.advance(16 * 60)
        await hall.write(EVE, code)
        assert len(await hall.told(EVE)) == times
        await forget_all(hall)


async def forget_all(hall: Hall) -> None:
    """Two days on, upkeep was there."""
    await hall.clock.advance(timedelta(days=2).total_seconds())
    await forget_old(hall)


async def forget_old(hall: Hall) -> None:
    now = hall.clock.now()
    async with hall.store.transaction() as tx:
        await codes.expire(tx, now)
        await codes.forget(tx, before=now - codes.KEPT, limit=50)
        await codes.forget_guesses(tx, before=now - codes.KEPT, limit=50)


@pytest.mark.behaviour("AC-03")
async def test_a_code_that_was_made_before_the_clock_was_set_back_is_too_old(tmp_path: Path) -> None:
    async with hall_in(tmp_path, ManualClock(START + timedelta(days=400))) as wrong:
        code = await wrong.pair()
    async with hall_in(tmp_path, ManualClock(START)) as right:
        assert await right.write(EVE, code)
        assert await right.told(EVE) == ["That code is too old; have a new one made."]
        await right.write(ADA, await right.pair())
        assert await right.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_a_code_is_good_after_the_clock_was_put_right_by_seconds(tmp_path: Path) -> None:
    async with hall_in(tmp_path, ManualClock(START + timedelta(seconds=3))) as before:
        code = await before.pair()
    async with hall_in(tmp_path, ManualClock(START)) as after:
        await after.write(ADA, code)
        assert await after.is_owner(ADA)


async def test_a_silence_that_began_before_the_clock_was_set_back_is_over(tmp_path: Path) -> None:
    async with hall_in(tmp_path, ManualClock(START + timedelta(days=400))) as wrong:
        await wrong.write(ADA, f"/pair {NONE}")
    async with hall_in(tmp_path, ManualClock(START)) as right:
        assert "Not listened to" not in await right.reads("pair", channel="telegram")
        await right.write(EVE, f"/pair {NONE}")
        await right.write(ADA, f"/pair {NONE}")
        await right.write(EVE, await right.pair())
        await right.write(ADA, await right.pair())
        owners = [await right.is_owner(user) for user in (EVE, ADA)]
        assert owners == [False, False], "it begins anew with the next wrong one"
        await right.clock.advance(3600)
        await right.write(ADA, await right.pair())
        assert await right.is_owner(ADA)


async def test_old_codes_and_guesses_are_forgotten(hall: Hall) -> None:
    for _ in range(3):
        await hall.pair()
    await hall.write(EVE, f"/pair {NONE}")
    await hall.clock.advance(timedelta(days=2).total_seconds())
    await forget_old(hall)
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
