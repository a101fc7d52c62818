"""Status: what runs, what waits, what failed, and what to do about each, on one screen.

Problems come first, then what waits, then other information; a section without rows is not shown.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.arguments import CommandArguments
from nanohost.channel_api import Condition
from nanohost.channels.manager import CONNECTED
from nanohost.commands.chat_names import ChatNames, load_chat_names, session_chat_names
from nanohost.commands.command import Command
from nanohost.commands.context import RESTART_HINT, CommandContext
from nanohost.commands.delivery_number import with_short_number
from nanohost.commands.settings_check import load_validated_settings
from nanohost.commands.setup import TERMINAL_CHANNEL
from nanohost.commands.status_headings import deduplicate_sections
from nanohost.commands.tables import Json, render_table, replace_control_chars
from nanohost.config.home import Home
from nanohost.db import holds, model_calls, paused, status_counts
from nanohost.db.database import ReportReader
from nanohost.db.events import ChatKey
from nanohost.db.paused import PauseState
from nanohost.gateway.model_call import NO_KEY_ERROR, TOO_LARGE_ERROR
from nanohost.gateway.provider_settings import DEMO
from nanohost.gateway.providers_in_use import is_model_used, providers_in_use
from nanohost.maintenance.exposed_files import find_exposed_files
from nanohost.maintenance.unused_files import find_unused_files
from nanohost.model import SessionId
from nanohost.text.phrases import format_time_with_zone
from nanohost.work.supervisor import ServiceState

FAILURE_WINDOW = timedelta(minutes=15)
"""How long failed model calls are shown."""
LOW_DISK_BYTES = 1_000_000_000
TIME_COLUMNS = {"since", "latest", "due", "changed_at", "received_at", "held_until", "until"}
"""Columns that are shown as relative times."""
HIDDEN_COLUMNS = {"do", "noun", "held", "thing"}
"""Columns that are used only for the advice, or by programs."""
Rows = Sequence[Mapping[str, Json]]


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a title. `advice` is what to do about them; {name} stands for the first row's value."""

    key: str
    title: str
    advice: str
    is_problem: bool = True


STARTING_REASON = "its container is about to start"
ROW_ADVICE = "{do}"
QUEUED_REASON = "in turn"
"""The reason of messages that wait only for earlier ones to be sent."""
MAX_REASON_CHARS = 1000
"""Characters of a reason. They are many, because the remedy is at its end, often with a path."""

SECTIONS = (
    Section("disk", "The disk is nearly full", "make room: df -h, df -i, nanohost sessions list, [host] keep_days"),
    Section(
        "folders_large",
        "Folders above their limit, and so when they were first seen",
        "what grows on is held: remove what should not be there, or raise [host] {setting} and start nanohost again",
    ),
    Section("files_exposed", "Files that others on this machine can read", "{do}"),
    Section("channels_failed", "Channels that are not connected", "{do}"),
    Section(
        "holds",
        "On hold: nothing is started, messages wait",
        "nanohost {noun} release {held}, when the reason is gone",
    ),
    Section(
        "sessions_slowed",
        "Sessions that write more than they may",
        "nothing is lost, it is taken over later; to stop one: nanohost sessions hold {session}",
    ),
    Section("services_in_trouble", "Services in trouble", "they are started again by themselves; why is in the log"),
    Section("sessions_in_trouble", "Sessions whose containers fail", "nanohost logs {session}"),
    Section(
        "conversations_not_kept",
        "Conversations that are not kept, and gone with their container",
        "is the folder sessions/.../{session}/state full, or read-only? nanohost logs {session}",
    ),
    Section("model_wrong", "The model cannot be asked", "{do}"),
    Section("models_failing", "Model calls that failed in the last 15 minutes", "{do}"),
    Section("turns_failing", "Sessions whose turns fail", "{do}"),
    Section("messages_late", "Messages that wait too long", "nanohost sessions list; why is in the last column"),
    Section("mailboxes_refusing", "Damaged mailboxes", "nanohost verify names what is wrong"),
    Section(
        "platforms_down",
        "Platforms that take no messages",
        "nothing is lost: all waits, in order, and goes out when {channel} is back",
    ),
    Section(
        "deliveries_unknown",
        "Delivery status unknown",
        "look into the chat, then nanohost deliveries resend {session} {seq}, or drop {session} {seq}",
    ),
    Section(
        "deliveries_dead",
        "Failed",
        "fix the reason, then nanohost deliveries resend {session} {seq}, or drop {session} {seq}",
    ),
    Section(
        "events_set_aside", "Quarantined: routing failed", "nanohost events retry {event} tries again; see the log"
    ),
    Section("tasks_paused", "Tasks that are paused", "nanohost tasks resume {task}"),
    Section("tasks_overdue", "Tasks that should have run", "they run when a host does; nanohost tasks get {task}"),
    Section(
        "approvals_open",
        "Pending approvals",
        "nanohost approvals get {approval} shows it; then approve {approval}, or deny {approval}",
        is_problem=False,
    ),
    Section("sessions_waiting", "Sessions that wait", "nothing to do: why is in the last column", is_problem=False),
    Section(
        "deliveries_waiting",
        "Waiting to be sent",
        "a channel that is down is tried again by itself; auth: nanohost channels update {channel}, then "
        + RESTART_HINT,
        is_problem=False,
    ),
    Section("files_unused", "Files that nothing uses yet", "{do}", is_problem=False),
    Section("events_dropped", "Not routed", "nanohost wirings create wires a chat to an agent", is_problem=False),
    Section("senders_denied", "Rejected", "nanohost roles create {user} member lets somebody in", is_problem=False),
)


class StatusArgs(CommandArguments):
    """Nothing to say."""


async def _status(context: CommandContext, arguments: StatusArgs) -> Json:
    now = context.clock.now()
    report = context.host.report() if context.host else None
    if report is None:  # mistakes that the next start would refuse
        await asyncio.to_thread(load_validated_settings, context.home, os.environ, resolve_secrets=False)
    pause = await paused.find(context.store.reports)
    failing = await model_calls.list_failures(context.store.reports, now - FAILURE_WINDOW, too_large=TOO_LARGE_ERROR)
    lists: dict[str, Json] = {
        **await status_counts.lists(context.store.reports, now, is_host_running=report is not None),
        "models_failing": [{**call, "do": _model_advice(call["status"], call["error"])} for call in failing],
        "disk": [*_short_disk_rows(report)] or await asyncio.to_thread(_disk_rows, context.home),
        "holds": [_hold_row(row) for row in await holds.list_for_status(context.store.reports)],
        "files_exposed": await asyncio.to_thread(_exposed_rows, context),
        "files_unused": await asyncio.to_thread(_unused_rows, context.home),
    }
    if pause is not None:  # none of them is late: everything waits
        lists["tasks_overdue"] = []
    if not await is_model_used(context.store.reports, context.settings, context.home.root):
        lists["models_failing"], report = [], None if report is None else {**report, "model_wrong": []}
    if await providers_in_use(context.store.reports, context.settings) == {
        DEMO
    }:  # other providers may call a model themselves
        lists["turns_failing"] = [
            row for row in _as_rows(lists["turns_failing"]) if row["class"] not in MODEL_ERROR_CLASSES
        ]
    if report is not None:
        lists["models_failing"] = _unresolved_failures(lists["models_failing"], report, _is_connection_failure)
        lists["turns_failing"] = _unresolved_failures(
            lists["turns_failing"], report, lambda turn: turn["class"] == "auth"
        )
    held = _as_rows(lists["holds"])
    when = _make_time_formatter(context)
    lists["sessions_waiting"] = [
        _waiting_row(row, report, pause, held, when) for row in _as_rows(lists["sessions_waiting"])
    ]
    of_host = _host_sections(report) if report else {}
    shown = deduplicate_sections({name: _as_rows(value) for name, value in (lists | of_host).items()})
    lists |= {name: shown[name] for name in lists.keys() & shown.keys()}
    report = None if report is None else report | {name: shown[name] for name in report.keys() & shown.keys()}
    named = await _make_chat_namer(context.store.reports, [lists, report or {}])
    lists = {name: named(value) for name, value in lists.items()}
    report = None if report is None else {name: named(value) for name, value in report.items()}
    return {
        "home": str(context.home.root),
        "time": now.isoformat(timespec="seconds"),
        "running": report is not None,
        "paused": None if pause is None else _pause_fields(pause),
        "host": report,
        "counts": dict(await status_counts.counts(context.store.reports)),
        "model_calls": dict(await model_calls.totals(context.store.reports)),
        **lists,
    }


async def _make_chat_namer(db: ReportReader, found: Sequence[Mapping[str, Json]]) -> Callable[[Json], Json]:
    """Returns a function that adds the channel and name of the chat to rows: of their own chat, whose id is then in
    `place`, or of their session's."""
    rows = [row for lists in found for value in lists.values() for row in _as_rows(value)]
    names = await load_chat_names(db)
    of_sessions = await session_chat_names(db, [str(row["session"]) for row in rows if row.get("session")])

    def named(row: Mapping[str, Json]) -> Mapping[str, Json]:
        if "chat" in row and "channel" in row:
            return {key: value for name in row if name != "channel" for key, value in _chat_fields(names, row, name)}
        chat = of_sessions.get(str(row.get("session") or ""))
        if chat is None:
            return row
        head = {"session": row["session"], "chat": chat}
        return {key: value for name in row for key, value in (head if name == "session" else {name: row[name]}).items()}

    return lambda value: [named(row) for row in _as_rows(value)] if _as_rows(value) else value


def _chat_fields(names: ChatNames, row: Mapping[str, Json], name: str) -> Iterator[tuple[str, Json]]:
    """Yields the fields for one field of a chat's row; for the chat's id its name and the full id."""
    if name != "chat":
        yield name, row[name]
        return
    channel_type, _, instance = str(row["channel"]).partition(":")
    yield "chat", names.for_chat_key(ChatKey(channel_type, instance, str(row["chat"])))
    yield "place", f"{row['channel']}:{row['chat']}"


REJECTED_STATUSES = {400, 413, 422}
"""HTTP statuses of a service that rejects the content or the size of a request."""
REJECTED_ADVICE = (
    "the model refuses what it is sent. If that is in a conversation, its agent begins a new one by itself; if it"
    " lasts: /clear in that chat, and nanohost logs SESSION"
)


def _model_advice(status: Json, error: Json) -> str:
    """Returns what to do about model calls with this HTTP status; 0: not forwarded, or not answered."""
    if error == NO_KEY_ERROR:
        return f"nanohost model set, or set ANTHROPIC_API_KEY; then {RESTART_HINT}"
    if error == TOO_LARGE_ERROR or status in REJECTED_STATUSES:
        return REJECTED_ADVICE
    match status:
        case 0:
            return "the service was not reached: nanohost model check"
        case 401 | 403:
            return f"the key is refused: nanohost model set, then {RESTART_HINT}"
        case 402:
            return "there is nothing left to pay with: top up at the provider"
        case 404:
            return "there is no such model: nanohost agents list, or [agent] model"
        case 429 | 529:
            return "too much for now: it is tried again by itself"
    return "tried again by itself; if it lasts: nanohost logs SESSION"


MODEL_ERROR_CLASSES = frozenset({"auth", "budget", "rate_limited", "overloaded"})
"""Error classes of turns that only occur with a model."""


def _is_connection_failure(call: Mapping[str, Json]) -> bool:
    """Returns whether a call failed because of the key or the address: no answer, or a rejected key."""
    return call["status"] in {0, 401} and call["error"] != TOO_LARGE_ERROR


def _unresolved_failures(
    rows: Json, report: Mapping[str, Json], is_connection_failure: Callable[[Mapping[str, Json]], bool]
) -> Rows:
    """Returns the rows without connection failures, if the model was reached since, or its problem is shown itself."""
    shown, good_at = bool(_as_rows(report.get("model_wrong"))), str(report.get("model_good_at") or "")
    return [
        row for row in _as_rows(rows) if not is_connection_failure(row) or not (shown or str(row["latest"]) < good_at)
    ]


def _pause_fields(pause: PauseState) -> Json:
    turns = pause.interrupted_turns or ()
    return {
        "by": pause.created_by,
        "since": pause.created_at.isoformat(timespec="seconds"),
        "interrupted_turns": [{"agent_group": one.agent_group, "since": _format_time(one.since)} for one in turns],
    }


def _format_time(moment: datetime | None) -> Json:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _make_time_formatter(context: CommandContext) -> Callable[[str], str]:
    """Returns a function that formats times for people, in their zone."""
    now, zone = context.clock.now(), context.settings.zone
    return lambda moment: format_time_with_zone(datetime.fromisoformat(moment), now, zone)


def _waiting_row(
    row: Mapping[str, Json],
    report: Mapping[str, Json] | None,
    pause: PauseState | None,
    held: Rows,
    format_time: Callable[[str], str],
) -> Mapping[str, Json]:
    """Returns the row of a waiting session, with the reason. `format_time` formats times."""
    if pause is not None:
        why = "everything is paused"
    elif any(one["held"] in (row["session"], row["agent_group"]) for one in held):
        why = "it is on hold"
    else:
        why = _wait_reason(row, report, format_time)
    return {**{name: row[name] for name in ("session", "agent_group", "due")}, "why": why}


async def wait_reason(context: CommandContext, db: ReportReader, session: SessionId) -> str:
    """Returns why messages to a session wait; empty if it does not wait."""
    row = await status_counts.find_session_wait(db, session, context.clock.now())
    if row is None:
        return ""
    report = context.host.report() if context.host else None
    held = [_hold_row(one) for one in await holds.list_for_status(db)]
    why = str(_waiting_row(row, report, await paused.find(db), held, _make_time_formatter(context))["why"])
    return "its container is busy, or about to take it" if why == STARTING_REASON and row["has_container"] else why


def _wait_reason(row: Mapping[str, Json], report: Mapping[str, Json] | None, format_time: Callable[[str], str]) -> str:
    if report is None:
        return "no host runs"
    if report.get("disks_short"):
        return "the disk is nearly full, and no container is started"
    for trouble in _as_rows(report.get("sessions_in_trouble")):
        if trouble["session"] == row["session"]:
            return f"its container failed; next try in {trouble['next_try_in_s']} s"
    if row["held_until"]:
        return f"its model cannot be asked before {format_time(str(row['held_until']))} ({row['held_by']})"
    waiting = report.get("waiting_for_a_container")
    if isinstance(waiting, Sequence) and row["session"] in waiting:
        return "all containers are taken ([host] max_containers)"
    return STARTING_REASON


def _short_disk_rows(report: Mapping[str, Json] | None) -> Rows:
    """Returns the disks that are so full that the host reserves the rest."""
    effect = "all containers are stopped until there is room"
    return (
        [_move_last("grew_most", {**row, "effect": effect}) for row in _as_rows(report.get("disks_short"))]
        if report
        else []
    )


def _move_last(name: str, row: Mapping[str, Json]) -> Mapping[str, Json]:
    """Moves a column with long text to the end, where it is not cut."""
    return {**{key: value for key, value in row.items() if key != name}, name: row[name]}


def _disk_rows(home: Home) -> Rows:
    """Returns one row if the disk is nearly full. Blocks."""
    usage = shutil.disk_usage(home.root)
    if usage.free >= LOW_DISK_BYTES:
        return []
    return [
        {
            "folder": str(home.root),
            "free_mb": usage.free // 1_000_000,
            "used": f"{usage.used / usage.total:.0%}",
        }
    ]


def _hold_row(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """Returns the row of a hold, with the noun of the command that releases it."""
    whole = not row["session"]
    return {**row, "noun": "agents" if whole else "sessions", "held": row["agent_group" if whole else "session"]}


def _exposed_rows(context: CommandContext) -> Rows:
    """Returns files that other users can read. Blocks."""
    return [
        {"path": str(one.path), "problem": one.problem, "do": one.fix_command}
        for one in find_exposed_files(context.home, context.settings)
    ]


def _unused_rows(home: Home) -> Rows:
    """Returns files that nothing uses. Blocks."""
    return [{"path": str(one.path), "problem": one.problem, "do": one.hint} for one in find_unused_files(home)]


def _render(result: Json) -> str:
    assert isinstance(result, Mapping)
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Json]) -> Iterator[str]:
    host = result["host"]
    now = datetime.fromisoformat(str(result["time"]))
    yield from _pause_lines(result.get("paused"), now)
    yield from _host_lines(result["home"], host, now)
    counts = result["counts"]
    assert isinstance(counts, Mapping)
    yield ""
    yield "   ".join(f"{str(name).replace('_', ' ')}: {value}" for name, value in counts.items() if value)
    found = {**result, **(_host_sections(host) if isinstance(host, Mapping) else {})}
    shown = [section for section in SECTIONS if _as_rows(found.get(section.key))]
    for section in shown:
        yield from _section_lines(section, _as_rows(found[section.key]), now)
    if not any(_is_problem(section, _as_rows(found[section.key])) for section in shown):
        yield ""
        running = "Nothing is wrong but that it is paused." if result.get("paused") else "All is well."
        yield running if host else "Nothing is wrong with the data."


def _pause_lines(pause: Json, now: datetime) -> Iterator[str]:
    if not isinstance(pause, Mapping):
        return
    by = replace_control_chars(str(pause["by"]))
    yield (
        f"PAUSED {_relative_time('since', pause['since'], now)} by {by}: nothing is started or sent   → nanohost resume"
    )
    yield from _table_lines(
        "Interrupted in the middle of a turn, and run again after a resume", _as_rows(pause["interrupted_turns"]), now
    )
    yield ""


def _host_lines(home: Json, host: Json, now: datetime) -> Iterator[str]:
    if not isinstance(host, Mapping):
        yield f"no nanohost runs in {home}   → nanohost run, or nanohost chat"
        return
    engine = f"{host['runtime']}, isolation: {host['isolation']}, provider: {host['provider']}"
    yield f"nanohost {host['version']} runs in {home} (pid {host['pid']}, {engine})"
    yield from _table_lines("Channels", [row for row in _as_rows(host["channels"]) if row["state"] == CONNECTED], now)
    is_known = any("chat" in row for row in _as_rows(host["containers"]))
    containers = [
        {
            "session": row["session"],
            **({"chat": row.get("chat")} if is_known else {}),
            "state": "busy" if row["busy"] and row["state"] == "running" else _idle_state(row["state"]),
            "since": _format_duration(row["for_s"]),
        }
        for row in _as_rows(host["containers"])
    ]
    yield from _table_lines("Containers", containers, now)


def _idle_state(state: Json) -> Json:
    return "idle" if state == "running" else state


def _host_sections(host: Mapping[str, Json]) -> dict[str, Json]:
    """Returns the problems of the running host, as sections."""
    failed = [{**row, "do": _channel_advice(row)} for row in _as_rows(host["channels"]) if row["state"] != CONNECTED]
    return {
        "channels_failed": failed,
        "services_in_trouble": host["services_in_trouble"],
        "sessions_in_trouble": host["sessions_in_trouble"],
        "conversations_not_kept": host.get("conversations_not_kept", []),
        "sessions_slowed": host["sessions_slowed"],
        "folders_large": host.get("folders_large", []),
        "model_wrong": host.get("model_wrong", []),
    }


SELF_RECOVERING_STATES = {Condition.DOWN, *ServiceState} - {ServiceState.FAILED}
"""States from which a channel may recover by itself."""


def _channel_advice(row: Mapping[str, Json]) -> str:
    """Returns what to do about a channel that is not connected."""
    name, state = str(row["name"]), row["state"]
    full = name if row["instance"] == "default" else f"{name}:{row['instance']}"
    if state == Condition.WAITING:
        return "it waits for what is said below"
    if name == TERMINAL_CHANNEL[0]:
        return f"fix what is said below; then {RESTART_HINT}"
    check = f"nanohost channels check {full} says what is wrong"
    if state in SELF_RECOVERING_STATES:
        return f"it is tried again by itself; {check}"
    return f"{check}, nanohost channels update {full} sets it anew; then {RESTART_HINT}"


def _is_problem(section: Section, rows: Rows) -> bool:
    """Returns whether the section shows a problem: also waiting messages that cannot be sent now."""
    cannot_be_sent = section.key == "deliveries_waiting" and any(row["reason"] != QUEUED_REASON for row in rows)
    return section.is_problem or cannot_be_sent


def _section_lines(section: Section, rows: Rows, now: datetime) -> Iterator[str]:
    """Yields the lines of a section. If each row has its own advice, rows with the same advice are grouped."""
    if section.advice != ROW_ADVICE:
        yield from _advice_lines(section, rows, now)
        return
    for do in dict.fromkeys(row["do"] for row in rows):
        yield from _advice_lines(section, [row for row in rows if row["do"] == do], now)


def _advice_lines(section: Section, rows: Rows, now: datetime) -> Iterator[str]:
    rows = [with_short_number(row) for row in rows]
    channel = str(rows[0].get("channel", "")).removesuffix(":default")
    advice = replace_control_chars(section.advice.format(**{**rows[0], "channel": channel}))
    shown = [{name: value for name, value in row.items() if name not in HIDDEN_COLUMNS} for row in rows]
    yield from _table_lines(f"{section.title}   → {advice}", shown, now)


def _table_lines(title: str, rows: Rows, now: datetime) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield title
    formatted = [{name: _relative_time(name, value, now) for name, value in row.items()} for row in rows]
    for line in render_table(formatted, last_column_max_chars=MAX_REASON_CHARS).splitlines():
        yield f"  {line}"


def _relative_time(name: str, value: Json, now: datetime) -> Json:
    """Formats times as relative times."""
    if name not in TIME_COLUMNS or not isinstance(value, str):
        return value
    try:
        passed_s = (now - datetime.fromisoformat(value)).total_seconds()
    except ValueError:
        return value
    # An event that happened while the report was made must not be shown as in the future.
    return f"{_format_duration(max(passed_s, 0))} ago" if passed_s > -1 else f"in {_format_duration(-passed_s)}"


def _format_duration(seconds: Json) -> str:
    assert isinstance(seconds, (int, float))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _as_rows(value: Json) -> Rows:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) else []


COMMANDS = (
    Command(
        words="status",
        help="what runs, what waits, what failed, and what to do about it",
        example="nanohost status --json",
        arguments=StatusArgs,
        run=_status,
        render=_render,
    ),
)
