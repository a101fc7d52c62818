"""One-time codes: which texts count as one, and every attempt to use somebody else's."""

from __future__ import annotations

import asyncio
import re
import shlex
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.access.codes import CodePrefix, TypedCode, issue, parse_code
from nanohost.channel_api import EventKind
from nanohost.db import codes, dropped
from nanohost.db.codes import CodePurpose, CodeStatus
from nanohost.routing.code_handler import CODE_EXPOSED_IN_GROUP, CODE_IN_EDIT, CODE_WITH_OTHER_TEXT
from nanohost.testing.manual_clock import START, ManualClock
from tests.access.harness import AccessTestHost, open_access_host

ADA, BOB, EVE = "telegram:ada", "telegram:bob", "telegram:eve"
BOSS = "telegram:boss"
NONE = "A2B3-C4D5"
"""A code that nobody made."""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("K7QM-2X9P", CodePrefix.NONE),
        (" k7qm2x9p\n", CodePrefix.NONE),
        ("/pair k7qm-2X9P", CodePrefix.PAIR),
        ("/PAIR@nanohost_bot K7QM2X9P", CodePrefix.PAIR),
        ("/link  K7QM-2X9P ", CodePrefix.LINK),
        ("/start K7QM-2X9P", CodePrefix.START),
        ("k7qm 2x9p", CodePrefix.NONE),
        ("/link k7qm - 2x9p", CodePrefix.LINK),
        ("`K7QM-2X9P`", CodePrefix.NONE),
        ("**K7QM2X9P**.", CodePrefix.NONE),
        ("\u201ck7qm\u20132x9p\u201d", CodePrefix.NONE),
        ("/pair  `K7QM\u20112X9P`!", CodePrefix.PAIR),
        ("/pair\nK7QM-2X9P \n\nIt works once.", CodePrefix.PAIR),
    ],
)
def test_a_code_is_parsed_with_any_dash_in_any_case_and_after_a_command(text: str, word: CodePrefix) -> None:
    assert parse_code(text) == TypedCode(code="K7QM2X9P", prefix=word)


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
def test_words_and_numbers_are_not_parsed_as_codes(text: str) -> None:
    assert parse_code(text) is None


async def test_a_code_is_random_typed_as_shown_and_stored_only_as_a_hash(host: AccessTestHost) -> None:
    shown = {await host.create_pairing_code() for _ in range(200)}
    assert len(shown) == 200
    for code in shown:
        assert re.fullmatch(r"[A-HJKMNP-Z2-9]{4}-[A-HJKMNP-Z2-9]{4}", code)
        assert parse_code(code) is not None
    dump = [
        tuple(row) for table in ("codes", "audit_log") for row in await host.store.fetch_all(f"SELECT * FROM {table}")
    ]
    assert not [code for code in shown if code in str(dump) or code.replace("-", "") in str(dump)]


@pytest.mark.behaviour("AC-03")
async def test_a_code_expires_after_fifteen_minutes(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    await host.clock.advance(15 * 60)
    assert await host.receive_message(ADA, code)
    assert await host.host_messages_to(ADA) == ["That code is too old; have a new one made."]
    assert not await host.is_owner(ADA)
    assert await host.receive_message(ADA, await host.create_pairing_code()), "and the new one is looked at"
    assert await host.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_a_code_works_once(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    await host.receive_message(ADA, code)
    assert await host.receive_message(EVE, code)
    assert await host.host_messages_to(EVE) == ["That code was used before; each works once."]
    assert not await host.is_owner(EVE)


@pytest.mark.behaviour("AC-03")
async def test_a_used_code_is_reported_as_used_even_after_expiry_or_a_new_code(
    host: AccessTestHost,
) -> None:
    code = await host.create_pairing_code()
    await host.receive_message(ADA, code)
    await host.receive_message(EVE, code)
    await host.create_pairing_code()
    await host.receive_message(BOB, code)
    await host.clock.advance(16 * 60)
    await host.receive_message("telegram:carl", code)
    for user in (EVE, BOB, "telegram:carl"):
        assert await host.host_messages_to(user) == ["That code was used before; each works once."]


async def test_a_code_that_had_expired_when_another_was_made_is_reported_as_too_old(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    await host.clock.advance(16 * 60)
    await host.create_pairing_code()
    await host.receive_message(EVE, code)
    assert await host.host_messages_to(EVE) == ["That code is too old; have a new one made."]


async def test_a_code_is_used_once_by_the_first_who_types_it(host: AccessTestHost) -> None:
    await host.create_pairing_code()
    async with host.store.transaction() as tx:
        [code] = await codes.list_open(tx)
        closed = [
            await codes.close(tx, code, CodeStatus.USED, used_by=user, now=host.clock.now()) for user in (ADA, EVE)
        ]
        found = await tx.fetch_all("SELECT used_by FROM codes")
    assert (closed, [row["used_by"] for row in found]) == ([True, False], [ADA])


@pytest.mark.behaviour("AC-03")
async def test_a_new_code_replaces_only_one_of_the_same_maker_purpose_and_user(host: AccessTestHost) -> None:
    made: list[tuple[CodePurpose, str | None, str]]
    made = [
        (CodePurpose.OWNER, "telegram", ADA),
        (CodePurpose.OWNER, "telegram", BOB),
        (CodePurpose.OWNER, "slack", ADA),
    ]
    made += [(CodePurpose.OWNER, None, ADA), (CodePurpose.LINK, None, ADA), (CodePurpose.LINK, None, BOB)]
    now = host.clock.now()
    for purpose, channel, user in (*made, made[0]):
        async with host.store.transaction() as tx:
            await issue(tx, purpose, channel_type=channel, user_id=user, created_by=user, origin="", now=now)
    open_now = [(one.purpose, one.channel_type, one.created_by) for one in await codes.list_open(host.store)]
    assert open_now == [*made[1:], made[0]]


async def test_a_repeated_event_does_not_use_a_code_twice(host: AccessTestHost) -> None:
    """Another event of the batch failed: the code would count as used, or a wrong code as two guesses."""
    code = await host.create_pairing_code()
    await host.receive_message(ADA, code)
    told = await host.host_messages_to(ADA)
    assert await host.repeat_last_message()
    assert await host.host_messages_to(ADA) == told
    assert await host.is_owner(ADA)


async def test_of_two_who_type_a_code_at_once_one_succeeds(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    await asyncio.gather(host.receive_message(ADA, code), host.receive_message(BOB, code))
    assert [await host.is_owner(ADA), await host.is_owner(BOB)].count(True) == 1
    assert len(await host.audit_entries("roles.create")) == 1


async def test_a_user_of_an_expired_code_is_notified_once(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    await host.clock.advance(16 * 60)
    for _ in range(5):
        assert await host.receive_message(EVE, code)
    assert len(await host.host_messages_to(EVE)) == 1


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("before", ["", "/pair ", "/start "])
async def test_a_wrong_code_voids_no_code_and_its_user_gets_no_second_guess(host: AccessTestHost, before: str) -> None:
    first, second = await host.create_pairing_code("telegram"), await host.create_pairing_code("slack")
    for stranger in (EVE, BOB):
        assert await host.receive_message(stranger, before + NONE)
        [said] = await host.host_messages_to(stranger)
        assert "That code is wrong" in said
        assert "13:00" in said
        assert await host.receive_message(stranger, first), "the right one neither"
        assert not await host.is_owner(stranger)
    for code, user in ((first, ADA), (second, "slack:ada")):
        await host.receive_message(user, code)
        assert await host.is_owner(user)
    guesses = await host.audit_entries("codes.guess")
    assert {(one.actor, one.outcome) for one in guesses} == {(EVE, "refused"), (BOB, "refused")}


@pytest.mark.behaviour("AC-03")
async def test_a_flood_of_guesses_makes_one_answer_one_audit_entry_and_a_count(host: AccessTestHost) -> None:
    await host.create_pairing_code()
    await host.receive_message(EVE, NONE)
    code = await host.create_pairing_code()
    for guess in range(50):
        assert await host.receive_message(EVE, f"/pair A2B3-C4{guess // 10 + 2}{guess % 8 + 2}")
    assert await host.receive_message(EVE, code), "the right one neither: it would be the fifty-second guess"
    assert not await host.is_owner(EVE)
    assert len(await host.host_messages_to(EVE)) == 1
    assert len(await host.audit_entries("codes.guess")) == 1
    [counted] = await dropped.latest(host.store.reports, limit=10, user=EVE)
    assert counted.count == 51
    now = host.clock.now()
    since = now - timedelta(hours=1)
    [guesses] = await codes.list_recent_guesses(
        host.store.reports, EVE.partition(":")[0], since=since, now=now, limit=9
    )
    assert (guesses.user_id, guesses.count) == (EVE, 52)
    await host.receive_message(ADA, code)
    assert await host.is_owner(ADA), "whoever is silent voids nothing"


async def test_a_silence_ends_after_the_announced_hour_however_often_they_tried(host: AccessTestHost) -> None:
    await host.receive_message(ADA, f"/pair {NONE}")
    for _ in range(5):
        await host.clock.advance(12 * 60 - 1)
        await host.receive_message(ADA, f"/pair {NONE}")
    await host.clock.advance(6)
    await host.receive_message(ADA, await host.create_pairing_code())
    assert await host.is_owner(ADA)


async def test_the_command_line_names_the_unheard_sender_with_the_command_to_type(host: AccessTestHost) -> None:
    await host.receive_message(ADA, f"/pair {NONE}")
    await host.receive_message("slack:eve", f"/pair {NONE}")
    shown = await host.render_command("pair", channel="telegram")
    assert shown.splitlines()[-2:] == [
        "Not listened to for an hour after a wrong code: telegram:ada.",
        "If that was you: nanohost roles create telegram:ada owner",
    ]


async def test_with_two_unheard_senders_the_suggested_command_names_neither(host: AccessTestHost) -> None:
    for user in (EVE, ADA):
        await host.receive_message(user, f"/pair {NONE}")
    shown = await host.render_command("pair", channel="telegram")
    assert shown.splitlines()[-2:] == [
        "Not listened to for an hour after a wrong code: telegram:ada, telegram:eve.",
        "If one of them is you: nanohost roles create YOURS owner",
    ]


async def test_a_hostile_user_id_has_no_effect_on_the_terminal_or_in_a_shell(host: AccessTestHost) -> None:
    await host.receive_message("telegram:\x1b[2J$(reboot)", f"/pair {NONE}")
    [listed, hint] = (await host.render_command("pair", channel="telegram")).splitlines()[-2:]
    assert "\x1b" not in listed + hint
    assert shlex.split(hint.removeprefix("If that was you: "))[3:] == [
        "telegram:\N{REPLACEMENT CHARACTER}[2J$(reboot)",
        "owner",
    ]


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("before", ["", "/pair "])
async def test_a_code_typed_in_a_group_is_voided(host: AccessTestHost, before: str) -> None:
    code = await host.create_pairing_code()
    assert await host.receive_message(ADA, before + code, group="family")
    [said] = await host.host_messages_to("telegram:family")
    assert "void" in said
    await host.receive_message(EVE, code)
    assert await host.host_messages_to(EVE) == ["That code is void; have a new one made."]
    assert not await host.is_owner(ADA)
    assert not await host.is_owner(EVE)


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
async def test_a_code_in_a_group_is_voided_whatever_the_text_around_it(host: AccessTestHost, said: str) -> None:
    code = await host.create_pairing_code()
    assert await host.receive_message(ADA, said.format(code.lower()), group="family", mentions=True)
    assert await host.host_messages_to("telegram:family") == [CODE_EXPOSED_IN_GROUP]
    await host.receive_message(EVE, code)
    assert not await host.is_owner(EVE)


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("said", ["it is {}", "{} Whoever writes this is an owner", "A2B3-C4D5 {}", "it is\n{}"])
async def test_a_code_among_other_words_is_voided_and_reaches_no_agent(host: AccessTestHost, said: str) -> None:
    code = await host.create_pairing_code()
    assert await host.receive_message(ADA, said.format(code))
    assert await host.host_messages_to(ADA) == [CODE_WITH_OTHER_TEXT]
    assert not await host.is_owner(ADA)
    await host.receive_message(EVE, code)
    assert not await host.is_owner(EVE)


@pytest.mark.behaviour("AC-03")
async def test_copying_the_whole_message_with_the_code_counts_as_typing_it(host: AccessTestHost) -> None:
    await host.make_owner(BOSS)
    await host.receive_message(BOSS, "/pair")
    await host.receive_message(ADA, (await host.host_messages_to(BOSS))[-1])
    assert await host.is_owner(ADA)
    await host.receive_message(BOSS, "/link")
    await host.receive_message("slack:boss", (await host.host_messages_to(BOSS))[-1])
    assert await host.is_owner("slack:boss")


@pytest.mark.behaviour("AC-03")
async def test_a_wrong_code_above_other_text_counts_as_a_guess(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    assert await host.receive_message(EVE, f"{NONE}\nWhoever writes this to me on telegram is an owner")
    await host.receive_message(ADA, code)
    assert await host.is_owner(ADA)
    assert len(await host.audit_entries("codes.guess")) == 1


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize(("group", "said"), [("family", CODE_EXPOSED_IN_GROUP), ("", CODE_IN_EDIT)])
async def test_a_code_in_an_edit_is_voided_and_reaches_no_agent(host: AccessTestHost, group: str, said: str) -> None:
    code = await host.create_pairing_code()
    assert await host.receive_message(ADA, code, group=group, kind=EventKind.EDIT)
    assert await host.host_messages_to("telegram:family" if group else ADA) == [said]
    [row] = await host.store.fetch_all("SELECT reply_to FROM deliveries")
    assert row["reply_to"] is None, "an edit's number is no message's"
    await host.receive_message(EVE, code)
    assert [await host.is_owner(user) for user in (ADA, EVE)] == [False, False]


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("between", [" ", "\n", " - ", "\u2026", "__"])
async def test_a_code_in_separated_halves_in_a_group_is_voided(host: AccessTestHost, between: str) -> None:
    code = await host.create_pairing_code()
    assert await host.receive_message(ADA, code.replace("-", between), group="family")
    await host.receive_message(EVE, code)
    assert [await host.is_owner(user) for user in (ADA, EVE)] == [False, False]


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("between", [" ", " - ", "\u2026", "__"])
@pytest.mark.parametrize("before", ["", "/pair "])
async def test_a_code_typed_with_another_character_for_its_dash_is_valid(
    host: AccessTestHost, between: str, before: str
) -> None:
    code = await host.create_pairing_code()
    assert await host.receive_message(ADA, before + code.lower().replace("-", between))
    assert await host.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_a_wrong_code_with_a_space_counts_as_a_guess(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    assert await host.receive_message(EVE, NONE.replace("-", " "))
    await host.receive_message(EVE, code)
    assert not await host.is_owner(EVE)
    assert len(await host.audit_entries("codes.guess")) == 1


async def test_an_unknown_code_among_other_words_is_an_ordinary_message_and_no_guess(
    host: AccessTestHost,
) -> None:
    code = await host.create_pairing_code()
    assert not await host.receive_message(ADA, f"it is {NONE}")
    await host.receive_message(ADA, code)
    assert await host.is_owner(ADA)
    assert not await host.receive_message(ADA, f"it was {code}"), "it is used"


async def test_two_codes_in_one_group_message_are_both_voided(host: AccessTestHost) -> None:
    first, second = await host.create_pairing_code("telegram"), await host.create_pairing_code("slack")
    assert await host.receive_message(ADA, f"{first} here and {second} there", group="family")
    assert len(await host.host_messages_to("telegram:family")) == 1
    assert len(await host.audit_entries("codes.burn")) == 2


async def test_an_unknown_code_in_a_group_is_an_ordinary_message(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    assert not await host.receive_message(EVE, NONE, group="family")
    assert not await host.receive_message(EVE, f"/pair {NONE}", group="family")
    assert await host.host_messages_to("telegram:family") == []
    await host.receive_message(ADA, code)
    assert await host.is_owner(ADA)
    assert not await host.receive_message(EVE, code, group="family"), "nobody waits for a used one"


async def test_a_bot_cannot_use_a_code(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    assert not await host.receive_message("telegram:robot", code, bot=True)
    assert not await host.is_owner("telegram:robot")
    await host.receive_message(ADA, code)
    assert await host.is_owner(ADA)


async def test_a_text_like_a_code_is_an_ordinary_message_while_no_code_is_open(host: AccessTestHost) -> None:
    assert not await host.receive_message(EVE, NONE)
    assert not await host.receive_message(EVE, f"/start {NONE}")
    await host.create_pairing_code()
    assert not await host.receive_message(EVE, "standard")
    await host.clock.advance(16 * 60)
    assert not await host.receive_message(EVE, NONE), "the open one is too old"
    assert await host.host_messages_to(EVE) == []


@pytest.mark.behaviour("AC-03")
async def test_a_code_is_valid_on_its_channel_only(host: AccessTestHost) -> None:
    code = await host.create_pairing_code("telegram")
    assert await host.receive_message("slack:eve", code)
    assert await host.host_messages_to("slack:eve") == ["That code is for telegram: write it to me there."]
    assert not await host.is_owner("slack:eve")
    await host.receive_message(ADA, code)
    assert await host.is_owner(ADA)


async def test_a_newer_code_voids_the_older_one(host: AccessTestHost) -> None:
    first = await host.create_pairing_code()
    second = await host.create_pairing_code()
    await host.receive_message(ADA, first)
    assert await host.host_messages_to(ADA) == ["That code is void; have a new one made."]
    await host.receive_message(ADA, second)
    assert await host.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_codes_and_guesses_survive_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_access_host(tmp_path, clock) as before:
        await before.receive_message(EVE, f"/pair {NONE}")
        code = await before.create_pairing_code()
    async with open_access_host(tmp_path, clock) as after:
        assert await after.receive_message(EVE, code)
        assert not await after.is_owner(EVE)
        await after.receive_message(ADA, code)
        assert await after.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_an_effect_of_a_code_is_notified_even_after_older_codes_were_deleted(host: AccessTestHost) -> None:
    await host.make_owner(BOSS)
    await host.receive_message(BOSS, "/approve")
    for user in ("telegram:carl", "telegram:dora"):
        await host.receive_message(user, await host.create_pairing_code())
        assert f"(`{user}`) is an owner now" in (await host.host_messages_to(BOSS))[-1]
        await forget_all(host)
    for user in ("slack:carl", "slack:dora"):
        await host.receive_message(BOSS, "/link")
        await host.receive_message(user, (await host.host_messages_to(BOSS))[-1].partition("\n")[0])
        assert f"(`{user}`) is linked with you now" in (await host.host_messages_to(BOSS))[-1]
        await forget_all(host)


async def test_a_user_of_an_expired_code_is_notified_even_after_others_were_deleted(host: AccessTestHost) -> None:
    for times in (1, 2):
        code = await host.create_pairing_code()
        await host.clock.advance(16 * 60)
        await host.receive_message(EVE, code)
        assert len(await host.host_messages_to(EVE)) == times
        await forget_all(host)


async def forget_all(hall: AccessTestHost) -> None:
    """Two days later, after retention has run."""
    await hall.clock.advance(timedelta(days=2).total_seconds())
    await forget_old(hall)


async def forget_old(hall: AccessTestHost) -> None:
    now = hall.clock.now()
    async with hall.store.transaction() as tx:
        await codes.expire(tx, now)
        await codes.delete_old(tx, before=now - codes.RETENTION, limit=50)
        await codes.delete_old_guesses(tx, before=now - codes.RETENTION, limit=50)


@pytest.mark.behaviour("AC-03")
async def test_a_code_made_before_the_clock_was_set_back_has_expired(tmp_path: Path) -> None:
    async with open_access_host(tmp_path, ManualClock(START + timedelta(days=400))) as wrong:
        code = await wrong.create_pairing_code()
    async with open_access_host(tmp_path, ManualClock(START)) as right:
        assert await right.receive_message(EVE, code)
        assert await right.host_messages_to(EVE) == ["That code is too old; have a new one made."]
        await right.receive_message(ADA, await right.create_pairing_code())
        assert await right.is_owner(ADA)


@pytest.mark.behaviour("AC-03")
async def test_a_code_stays_valid_when_the_clock_is_corrected_by_seconds(tmp_path: Path) -> None:
    async with open_access_host(tmp_path, ManualClock(START + timedelta(seconds=3))) as before:
        code = await before.create_pairing_code()
    async with open_access_host(tmp_path, ManualClock(START)) as after:
        await after.receive_message(ADA, code)
        assert await after.is_owner(ADA)


async def test_a_silence_that_began_before_the_clock_was_set_back_has_ended(tmp_path: Path) -> None:
    async with open_access_host(tmp_path, ManualClock(START + timedelta(days=400))) as wrong:
        await wrong.receive_message(ADA, f"/pair {NONE}")
    async with open_access_host(tmp_path, ManualClock(START)) as right:
        assert "Not listened to" not in await right.render_command("pair", channel="telegram")
        await right.receive_message(EVE, f"/pair {NONE}")
        await right.receive_message(ADA, f"/pair {NONE}")
        await right.receive_message(EVE, await right.create_pairing_code())
        await right.receive_message(ADA, await right.create_pairing_code())
        owners = [await right.is_owner(user) for user in (EVE, ADA)]
        assert owners == [False, False], "it begins anew with the next wrong one"
        await right.clock.advance(3600)
        await right.receive_message(ADA, await right.create_pairing_code())
        assert await right.is_owner(ADA)


async def test_old_codes_and_guesses_are_deleted(host: AccessTestHost) -> None:
    for _ in range(3):
        await host.create_pairing_code()
    await host.receive_message(EVE, f"/pair {NONE}")
    await host.clock.advance(timedelta(days=2).total_seconds())
    await forget_old(host)
    assert await host.store.fetch_all("SELECT * FROM codes") == []
    assert await host.store.fetch_all("SELECT * FROM code_guesses") == []


async def test_each_purpose_has_its_own_lifetime(host: AccessTestHost) -> None:
    now = host.clock.now()
    async with host.store.transaction() as tx:
        made = [
            await issue(tx, one, channel_type=None, user_id=ADA, created_by=ADA, origin="", now=now)
            for one in CodePurpose
        ]
    assert [one.expires_at - now for one in made] == [timedelta(minutes=15), timedelta(minutes=10)]


async def test_a_failed_write_of_the_answer_leaves_the_code_unused(host: AccessTestHost) -> None:
    code = await host.create_pairing_code()
    async with host.store.transaction() as tx:
        await tx.execute("CREATE TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(sqlite3.IntegrityError):
        await host.receive_message("telegram:ada", code)
    assert not await host.is_owner("telegram:ada")
    assert await host.audit_entries("codes.use") == []
    async with host.store.transaction() as tx:
        await tx.execute("DROP TRIGGER full")
    assert await host.receive_message("telegram:ada", code)
    assert await host.is_owner("telegram:ada")
