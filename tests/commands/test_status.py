"""nanohost status: each problem with the command to type, or that all is well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nanohost.commands import status
from nanohost.commands.tables import Json
from nanohost.config.settings import Settings, make_settings
from nanohost.db import agent_groups, model_calls, sessions, users
from nanohost.gateway.model_call import NO_KEY_ERROR, TOO_LARGE_ERROR
from nanohost.model import SessionId
from nanohost_protocol.times import to_text
from tests.commands.conftest import Operator

pytestmark = pytest.mark.behaviour("OP-01")


class Live:
    """Satisfies LiveHost: a running host with this report."""

    def __init__(self, **said: Json) -> None:
        quiet: dict[str, Json] = {
            "version": "1",
            "pid": 7,
            "runtime": "docker",
            "isolation": "container",
            "provider": "demo",
            "channels": [{"name": "terminal", "instance": "default", "state": "connected", "detail": ""}],
            "containers": [],
            "sessions_in_trouble": [],
            "sessions_slowed": [],
            "disks_short": [],
            "folders_large": [],
            "waiting_for_a_container": [],
            "services_in_trouble": [],
        }
        self._said = {**quiet, **said}

    def report(self) -> dict[str, Json]:
        return self._said

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"status only looks, and asked for {name}")


def running(operator: Operator, **said: Json) -> Operator:
    return Operator(replace(operator.context, host=Live(**said)))  # type: ignore[arg-type]


def with_model(operator: Operator) -> Operator:
    """The operator, with a provider that uses a model by default."""
    return Operator(replace(operator.context, settings=make_settings(host={"provider": "claude"})))


async def a_session(operator: Operator, *, due: bool = False) -> SessionId:
    store, now = operator.context.store, operator.context.clock.now()
    async with store.transaction() as tx:
        group = await agent_groups.add(tx, folder="work", name="work", provider=None, model=None, now=now)
        session = await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=None, now=now)
        if due:
            await sessions.make_due(tx, session, at=now, now=now)
    return session


async def test_a_host_without_problems_reports_that_all_is_well(operator: Operator) -> None:
    shown = await running(operator).render("status")
    assert shown.endswith("All is well.")
    assert "→" not in shown


async def test_status_without_a_host_says_how_to_start_one_and_that_the_data_is_fine(operator: Operator) -> None:
    shown = await operator.render("status")
    assert "→ nanohost run, or nanohost chat" in shown
    assert "Nothing is wrong with the data." in shown


async def test_containers_are_shown_as_busy_or_idle_with_the_time_since(operator: Operator) -> None:
    host = running(
        operator,
        containers=[
            {"session": "s1", "state": "running", "busy": True, "for_s": 20},
            {"session": "s2", "state": "running", "busy": False, "for_s": 7300},
            {"session": "s3", "state": "starting", "busy": True, "for_s": 1},
        ],
    )
    shown = [line.split() for line in (await host.render("status")).splitlines()]
    assert ["s1", "busy", "20", "s"] in shown
    assert ["s2", "idle", "2", "h"] in shown
    assert ["s3", "starting", "1", "s"] in shown


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "its container is about to start"),
        ({"waiting_for_a_container": ["SESSION"]}, "all containers are taken"),
        (
            {
                "sessions_in_trouble": [
                    {"session": "SESSION", "failures": 2, "next_try_in_s": 9, "reason": "no such image"}
                ]
            },
            "Sessions whose containers fail",
        ),
    ],
)
async def test_a_waiting_session_is_shown_with_the_reason(operator: Operator, said: dict[str, Json], why: str) -> None:
    session = await a_session(operator, due=True)
    told = {key: _named(value, session) for key, value in said.items()}
    shown = await running(operator, **told).render("status")
    assert why in shown
    assert session in shown


async def test_an_unsaved_conversation_is_shown_with_its_folder(operator: Operator) -> None:
    since = operator.context.clock.now() - timedelta(minutes=5)
    rows: Json = [{"session": "s4kq", "since": since.isoformat()}]
    shown = await running(operator, conversations_not_kept=rows).render("status")
    assert "Conversations that are not kept" in shown
    assert "is the folder sessions/.../s4kq/state full, or read-only?" in shown
    assert "5 min ago" in shown
    assert "All is well" not in shown


async def test_a_session_in_model_backoff_is_shown_with_its_end(operator: Operator) -> None:
    operator = with_model(operator)
    session = await a_session(operator, due=True)
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO turn_failures (session_id, error_class, sentence, since, latest_at, failures, held_until)"
            " VALUES (?, 'rate_limited', 'later', ?, ?, 3, ?)",
            (session, to_text(now), to_text(now), to_text(now + timedelta(minutes=30))),
        )
    shown = await running(operator).render("status")
    assert shown.count(session) == 1
    assert "rate_limited" in shown
    assert "tried again by itself" in shown
    assert "in 30 min" in shown
    assert "All is well" not in shown


async def test_the_reason_of_a_wait_uses_the_hosts_time_zone(operator: Operator) -> None:
    session, now = await a_session(operator, due=True), operator.context.clock.now()
    until = now + timedelta(minutes=30)
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO turn_failures (session_id, error_class, sentence, since, latest_at, failures, held_until)"
            " VALUES (?, 'rate_limited', 'later', ?, ?, 3, ?)",
            (session, to_text(now), to_text(now), to_text(until)),
        )
    settings = make_settings(host={"timezone": "Asia/Tokyo"})
    host = running(Operator(replace(operator.context, settings=settings)))
    why = await status.wait_reason(host.context, host.context.store.reports, session)
    assert f"{until.astimezone(ZoneInfo('Asia/Tokyo')):%H:%M} (Asia/Tokyo)" in why


async def test_an_event_during_the_report_is_not_shown_as_in_the_future(operator: Operator) -> None:
    session = await a_session(operator)
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO turn_failures (session_id, error_class, sentence, since, latest_at, failures)"
            " VALUES (?, 'permanent', 'no', ?, ?, 1)",
            (session, to_text(now), to_text(now + timedelta(seconds=0.4))),
        )
    shown = await running(operator).render("status")
    assert "0 s ago" in shown
    assert "in 0 s" not in shown


async def test_a_session_refused_by_its_model_is_shown_with_the_remedy(operator: Operator) -> None:
    operator = with_model(operator)
    session = await a_session(operator)
    now = to_text(operator.context.clock.now())
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO turn_failures (session_id, error_class, sentence, since, latest_at, failures)"
            " VALUES (?, 'permanent', 'no', ?, ?, 1)",
            (session, now, now),
        )
    shown = await running(operator).render("status")
    assert f"/clear in the chat begins a new conversation; why: nanohost logs {session}" in shown


@pytest.mark.parametrize(
    ("code", "error", "advice"),
    [
        (401, "invalid x-api-key", "the key is refused"),
        (0, "ClientConnectorError", "was not reached"),
        (429, "rate_limit_error", "tried again by itself"),
        (400, "messages.3: Could not process image", "begins a new one by itself; if it lasts: /clear in that chat"),
        (413, "Request exceeds the maximum size", "begins a new one by itself; if it lasts: /clear in that chat"),
        (0, TOO_LARGE_ERROR, "begins a new one by itself; if it lasts: /clear in that chat"),
        (0, NO_KEY_ERROR, "set ANTHROPIC_API_KEY"),
    ],
)
async def test_failing_model_calls_are_counted_and_shown_with_advice(
    operator: Operator, code: int, error: str, advice: str
) -> None:
    operator = with_model(operator)
    await _call(operator, code, error)
    await _call(operator, code, error)
    shown = await running(operator).render("status")
    assert advice in shown
    [failing] = (await operator.run("status"))["models_failing"]
    assert (failing["calls"], failing["error"]) == (2, error)


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize(
    ("code", "session", "model", "is_over"),
    [
        (401, "s2", "other", True),
        (0, "s2", "other", True),
        (402, "s2", "other", True),
        (529, "s2", "other", True),
        (404, "s2", "other", False),
        (404, "s2", "m", True),
        (404, "s1", "other", True),
        (400, "s2", "m", False),
        (400, "s1", "m", False),
        (413, "s1", "m", False),
    ],
)
async def test_a_later_success_clears_the_problem_it_resolves(
    operator: Operator, code: int, session: str, model: str, is_over: bool
) -> None:
    """A key or network problem is cleared by any success, a problem of a model by its own, one of a conversation by
    neither."""
    operator = with_model(operator)
    await _call(operator, 200, None, session="s1")  # an earlier success clears nothing
    await _call(operator, code, "refused", session="s1")
    assert len((await operator.run("status"))["models_failing"]) == 1
    await _call(operator, 200, "cut in the middle", session=session, model=model)
    assert len((await operator.run("status"))["models_failing"]) == 1
    await _call(operator, 200, None, session=session, model=model)
    assert ((await operator.run("status"))["models_failing"] == []) is is_over


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize(("after_s", "is_over"), [(-1, False), (1, True)])
async def test_a_later_successful_check_by_the_host_clears_the_key_problem(
    operator: Operator, after_s: float, is_over: bool
) -> None:
    operator = with_model(operator)
    session = await a_session(operator)
    now = operator.context.clock.now()
    await _call(operator, 401, "invalid")
    await _call(operator, 429, "limited")
    await _call(operator, 0, TOO_LARGE_ERROR)
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO turn_failures (session_id, error_class, sentence, since, latest_at, failures)"
            " VALUES (?, 'auth', 'no', ?, ?, 1)",
            (session, to_text(now), to_text(now)),
        )
    host = running(operator, model_good_at=to_text(now + timedelta(seconds=after_s)))
    found = await host.run("status")
    of_the_key = [row for row in found["models_failing"] if row["status"] == 401] + found["turns_failing"]
    assert len(of_the_key) == (0 if is_over else 1), "what follows from the key is said once"
    assert [row["status"] for row in found["models_failing"] if row["status"] == 429] == [429]
    assert [row["error"] for row in found["models_failing"] if row["status"] == 0] == [TOO_LARGE_ERROR]


@pytest.mark.behaviour("GW-08")
async def test_key_problems_are_shown_under_one_heading(operator: Operator) -> None:
    operator = with_model(operator)
    await _call(operator, 401, "invalid")
    since = operator.context.clock.now().isoformat()
    wrong: Json = [{"problem": "it refuses the key", "since": since, "do": "nanohost model set"}]
    shown = await running(operator, model_wrong=wrong).render("status")
    assert "The model cannot be asked   → nanohost model set" in shown
    assert "it refuses the key" in shown
    assert "Model calls that failed" not in shown
    assert "All is well" not in shown


@pytest.mark.behaviour("GW-08")
async def test_each_kind_of_failing_model_call_has_its_own_advice(operator: Operator) -> None:
    await _call(operator, 401, "invalid")
    await _call(operator, 0, "no route")
    shown = await running(with_model(operator)).render("status")
    heads = [line for line in shown.splitlines() if "Model calls that failed" in line]
    assert sorted(head.split("→ ")[1].split(":")[0] for head in heads) == [
        "the key is refused",
        "the service was not reached",
    ]


@pytest.mark.behaviour("GW-08")
async def test_without_an_agent_that_uses_a_model_no_model_advice_is_shown(operator: Operator) -> None:
    session, now = await a_session(operator), operator.context.clock.now()
    await _call(operator, 0, "no route")
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO turn_failures (session_id, error_class, sentence, since, latest_at, failures)"
            " VALUES (?, 'auth', 'no', ?, ?, 1)",
            (session, to_text(now), to_text(now)),
        )
    wrong: Json = [{"problem": "it refuses the key", "since": now.isoformat(), "do": "nanohost model set"}]
    demo = Operator(replace(operator.context, settings=Settings()))
    assert (await running(demo, model_wrong=wrong).render("status")).endswith("All is well.")
    async with operator.context.store.transaction() as tx:
        await tx.execute("UPDATE agent_groups SET provider = 'claude'")
    assert "nanohost model set" in await running(demo, model_wrong=wrong).render("status"), "one still does"


OWN = """\
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "provider"
# api = 1
# gateway = {gateway}
# ///
"""


@pytest.mark.behaviour("GW-08")
@pytest.mark.parametrize(("provider", "is_said"), [("scripted", False), ("parrot", False), ("cloud", True)])
async def test_model_problems_are_shown_only_if_a_provider_uses_the_gateway(
    operator: Operator, provider: str, is_said: bool
) -> None:
    await a_session(operator)
    (own := operator.context.home.root / "providers").mkdir()
    (own / "parrot.py").write_text(OWN.format(gateway="false"))
    (own / "cloud.py").write_text(OWN.format(gateway="true"))
    await _call(operator, 0, "no route")
    of_host = Operator(replace(operator.context, settings=make_settings(host={"provider": provider})))
    assert bool((await of_host.run("status"))["models_failing"]) is is_said
    async with operator.context.store.transaction() as tx:
        await tx.execute("UPDATE agent_groups SET provider = ?", (provider,))
    of_group = Operator(replace(operator.context, settings=Settings()))
    assert bool((await of_group.run("status"))["models_failing"]) is is_said


async def test_denied_senders_are_let_in_by_the_same_command_everywhere(operator: Operator) -> None:
    await operator.run("agents create", folder="work")
    wired = await operator.run("wirings create", channel="terminal", chat="7", group="work")
    advice = {section.key: section.advice for section in status.SECTIONS}["senders_denied"]
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "when-status-shows.md").read_text()
    assert "nanohost roles create {user} member" in advice
    assert "| Rejected | a stranger wrote | `nanohost roles create USER member` |" in page
    assert "(nanohost roles create terminal:HANDLE member)" in wired["next"]


@pytest.mark.behaviour("GW-08")
async def test_a_call_abandoned_by_the_container_is_not_a_failure(operator: Operator) -> None:
    """As when a turn is stopped, or its container killed: the service works."""
    await _call(with_model(operator), 0, None)
    assert (await operator.run("status"))["models_failing"] == []


async def test_old_failures_of_model_calls_are_not_shown(operator: Operator) -> None:
    await _call(operator, 401, "invalid", ago=timedelta(minutes=16))
    assert (await operator.run("status"))["models_failing"] == []


async def test_a_paused_task_is_shown_with_the_command_that_resumes_it(operator: Operator) -> None:
    session = await a_session(operator)
    now = to_text(operator.context.clock.now())
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO tasks (id, session_id, kind, content, timezone, status, misfire, reason, created_by,"
            " created_at, changed_at)"
            " VALUES ('t1', ?, 'agent', 'x', 'UTC', 'paused', 'latest', 'it failed', 'a', ?, ?)",
            (session, now, now),
        )
    shown = await running(operator).render("status")
    assert "nanohost tasks resume t1" in shown
    assert "it failed" in shown


async def test_a_disconnected_channel_counts_as_a_problem(operator: Operator) -> None:
    down: Json = [{"name": "telegram", "instance": "default", "state": "restarting", "detail": "no network"}]
    shown = await running(operator, channels=down).render("status")
    assert "Channels that are not connected" in shown
    assert "no network" in shown
    assert "All is well" not in shown


@pytest.mark.parametrize(
    ("name", "instance", "state", "advice"),
    [
        (
            "telegram",
            "default",
            "auth_failed",
            "nanohost channels check telegram says what is wrong, nanohost channels update telegram sets it anew; then"
            " end nanohost run, and start it again",
        ),
        (
            "slack",
            "work",
            "failed",
            "nanohost channels check slack:work says what is wrong, nanohost channels update slack:work sets it anew;"
            " then end nanohost run, and start it again",
        ),
        (
            "telegram",
            "default",
            "down",
            "it is tried again by itself; nanohost channels check telegram says what is wrong",
        ),
        ("terminal", "default", "failed", "fix what is said below; then end nanohost run, and start it again"),
    ],
)
async def test_a_disconnected_channel_is_shown_with_the_commands_that_fix_it(
    operator: Operator, name: str, instance: str, state: str, advice: str
) -> None:
    failed: Json = [{"name": name, "instance": instance, "state": state, "detail": "why"}]
    shown = await running(operator, channels=failed).render("status")
    assert f"Channels that are not connected   → {advice}\n" in shown


async def test_different_problems_get_separate_advice(operator: Operator) -> None:
    channels: Json = [
        {"name": name, "instance": "default", "state": "failed", "detail": "why"} for name in ("telegram", "slack")
    ]
    shown = await running(operator, channels=channels).render("status")
    assert [line.split(" says ")[0].split("→ ")[1] for line in shown.splitlines() if "→" in line] == [
        "nanohost channels check telegram",
        "nanohost channels check slack",
    ]


@pytest.mark.parametrize(("reason", "is_well"), [(None, True), ("failing: 503", False), ("auth: wrong token", False)])
async def test_all_is_not_well_while_a_message_cannot_be_sent(
    operator: Operator, reason: str | None, is_well: bool
) -> None:
    session = await a_session(operator)
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO deliveries (session_id, seq, out_id, kind, channel_type, instance, platform_id, content,"
            " status, reason, created_at, changed_at)"
            " VALUES (?, 1, 'o', 'chat', 'telegram', 'default', 'c', '{}', 'pending', ?, ?, ?)",
            (session, reason, *[to_text(operator.context.clock.now())] * 2),
        )
    shown = await running(operator).render("status")
    assert "Waiting to be sent" in shown
    assert "auth: nanohost channels update telegram, then" in shown
    assert ("All is well." in shown) is is_well


async def test_a_nearly_full_disk_is_reported(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOW_DISK_BYTES", 2**63)
    shown = await running(operator).render("status")
    assert "The disk is nearly full" in shown
    assert "df -h" in shown


async def test_a_late_message_is_shown_with_its_cause(operator: Operator) -> None:
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO late_messages (name, channel, platform_id, cause, sentence, since, found_at, notified)"
            " VALUES ('event 1', 'telegram:default', 'c1', 'routing', 'it is not routed', ?, ?, 0)",
            (to_text(now - timedelta(minutes=20)), to_text(now)),
        )
    shown = await running(operator).render("status")
    assert "it is not routed" in shown
    assert "20 min ago" in shown


@pytest.mark.behaviour("OP-01", "AC-01")
@pytest.mark.parametrize(
    ("granted", "is_shown"),
    [
        (None, True),
        ({"user": "telegram:1", "role": "member", "group": "other"}, True),
        ({"user": "telegram:1", "role": "owner"}, False),
        ({"user": "slack:U1", "role": "member", "group": "main"}, False),
    ],
)
async def test_granting_a_role_is_advised_only_for_senders_without_one_under_any_identity(
    operator: Operator, granted: dict[str, str] | None, is_shown: bool
) -> None:
    """A person with a role whose command is filtered is not denied; linked identities are one person."""
    for folder in ("main", "other"):
        await operator.run("agents create", folder=folder)
    await operator.run("wirings create", channel="telegram", chat="1", group="main")
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        for user in ("telegram:1", "slack:U1"):
            await users.record_seen(tx, user, name="Ann", now=now)
        await users.link(tx, "telegram:1", "slack:U1")
    if granted is not None:
        await operator.run("roles create", **granted)
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO inbound_events (channel_type, instance, platform_id, platform_message_id, event_kind,"
            " is_group, mentions_bot, sender_handle, sender_name, sender_is_bot, chat_name, text, sent_at, received_at,"
            " status)"
            " VALUES ('telegram', 'default', '1', 'm1', 'message', 0, 0, '1', 'Ann', 0, '', '/config', '2100-01-01',"
            " '2100-01-01', 'routed')"
        )
        await tx.execute("INSERT INTO routes (event_id, wiring_id, outcome, reason) VALUES (1, 1, 'denied', '')")
    shown = await operator.run("status")
    assert isinstance(shown, dict)
    assert bool(shown["senders_denied"]) is is_shown


def _named(value: Json, session: SessionId) -> Json:
    if isinstance(value, Mapping):
        return {key: _named(inner, session) for key, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner, session) for inner in value]
    return session if value == "SESSION" else value


async def _call(
    operator: Operator,
    code: int,
    error: str | None,
    *,
    ago: timedelta = timedelta(),
    session: str = "s1",
    model: str = "m",
) -> None:
    async with operator.context.store.transaction() as tx:
        await model_calls.add(
            tx,
            session=SessionId(session),
            model=model,
            started_at=operator.context.clock.now() - ago,
            duration_ms=1,
            status=code,
            tokens_in=0,
            tokens_out=0,
            tokens_cached=0,
            tokens_cache_written=0,
            error=error,
        )


async def test_a_hold_is_shown_with_its_reason_and_the_release_command(operator: Operator) -> None:
    session = await a_session(operator, due=True)
    await operator.run("sessions hold", id=session, reason="too loud")
    text = await running(operator).render("status")
    assert f"On hold: nothing is started, messages wait   → nanohost sessions release {session}" in text
    assert "too loud" in text
    assert "Sessions that wait" not in text
    await operator.run("sessions release", id=session)
    assert "On hold" not in await running(operator).render("status")


async def test_the_full_reason_of_a_hold_is_shown(operator: Operator) -> None:
    session = await a_session(operator)
    reason = (
        "its state folder has grown beyond 2,048 MiB: remove what should not be there "
        f"(/srv/sessions/work/{session}/state), or raise session_disk_mb in [host] of nanohost.toml "
        "and start nanohost again"
    )
    await operator.run("sessions hold", id=session, reason=reason)
    assert reason in await running(operator).render("status")


async def test_a_held_agent_is_shown_with_the_release_command_by_folder(operator: Operator) -> None:
    await a_session(operator)
    await operator.run("agents hold", folder="work", reason="its folder is full")
    assert "nanohost agents release work" in await operator.render("status")


async def test_a_throttled_session_is_shown_with_the_reason(operator: Operator) -> None:
    slowed: list[Json] = [{"session": "s1", "reason": "more than 600 requests an hour"}]
    text = await running(operator, sessions_slowed=slowed).render("status")
    assert "Sessions that write more than they may" in text
    assert "nanohost sessions hold s1" in text
    assert "more than 600 requests an hour" in text


async def test_a_low_disk_is_shown_with_its_cause_and_what_is_stopped(operator: Operator) -> None:
    grew = "the workspace folder of the agent bad grew by 600 MiB to 700 MiB (/srv/nanohost/groups/bad)"
    rows: list[Json] = [{"folder": "/srv/groups", "left": "410 MiB", "grew_most": grew}]
    session = await a_session(operator, due=True)
    text = await running(operator, disks_short=rows).render("status")
    assert "The disk is nearly full" in text
    assert "all containers are stopped until there is room" in text
    assert "410 MiB" in text
    assert grew in text
    assert session in text
    assert "the disk is nearly full, and no container is started" in text


async def test_a_folder_first_seen_above_its_limit_is_shown_with_the_setting(
    operator: Operator,
) -> None:
    row: Json = {
        "whose": "the agent work",
        "folder": "/srv/groups/work",
        "size_mb": 20_000,
        "limit_mb": 10_240,
        "setting": "workspace_mb",
    }
    text = await running(operator, folders_large=[row]).render("status")
    assert "Folders above their limit" in text
    assert "or raise [host] workspace_mb and start nanohost again" in text
    assert "/srv/groups/work" in text
