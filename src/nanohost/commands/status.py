"""Status: what runs, what waits, what failed, and what to do about each, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nanohost.commands.context import CommandContext
from nanohost.commands.registry import Arguments, Command
from nanohost.commands.show import Json, table
from nanohost.store import model_calls, overview

ADVICE = {
    "mailboxes_refusing": ("Mailboxes that refuse messages", "nanohost verify names what is wrong with the file"),
    "deliveries_waiting": (
        "Waiting to be sent",
        "a channel that is down is tried again by itself; auth: mend its token, then restart",
    ),
    "deliveries_unknown": (
        "May have been sent, nobody knows",
        "look into the chat, then nanohost deliveries resend SESSION SEQ, or drop SESSION SEQ",
    ),
    "deliveries_dead": (
        "Given up",
        "mend the reason, then nanohost deliveries resend SESSION SEQ, or drop SESSION SEQ",
    ),
    "events_set_aside": ("Set aside: routing failed", "nanohost events retry EVENT tries again; the log has more"),
    "events_dropped": ("Not routed", "nanohost wirings create wires a chat to an agent"),
    "senders_denied": ("Turned away", "nanohost roles grant USER member lets somebody in"),
}


class Status(Arguments):
    """Nothing to say."""


async def _status(context: CommandContext, arguments: Status) -> Json:
    return {
        "home": str(context.home.root),
        "running": context.live is not None,
        "host": context.live.report() if context.live else None,
        "counts": dict(await overview.counts(context.store)),
        "model_calls": dict(await model_calls.totals(context.store)),
        **{name: list(rows) for name, rows in (await overview.lists(context.store)).items()},
    }


def _render(result: Json) -> str:
    assert isinstance(result, Mapping)
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Json]) -> Iterator[str]:
    host = result["host"]
    if isinstance(host, Mapping):
        engine = f"{host['runtime']}, isolation: {host['isolation']}"
        yield f"nanohost {host['version']} runs in {result['home']} (pid {host['pid']}, {engine})"
        yield from _section("Channels", host["channels"], "")
        yield from _section("Containers", host["containers"], "")
        yield from _section("Sessions whose containers fail", host["sessions_in_trouble"], "nanohost logs SESSION")
        yield from _section("Services in trouble", host["services_in_trouble"], "the log has more")
    else:
        yield f"no nanohost runs in {result['home']}   → nanohost run, or nanohost chat"
    counts = result["counts"]
    assert isinstance(counts, Mapping)
    yield ""
    yield "   ".join(f"{str(name).replace('_', ' ')}: {value}" for name, value in counts.items())
    for name, (title, advice) in ADVICE.items():
        yield from _section(title, result[name], advice)


def _section(title: str, rows: Json, advice: str) -> Iterator[str]:
    if not isinstance(rows, Sequence) or not rows:
        return
    yield ""
    yield f"{title}   → {advice}" if advice else title
    for line in table([row for row in rows if isinstance(row, Mapping)]).splitlines():
        yield f"  {line}"


COMMANDS = (
    Command(
        words="status",
        help="what runs, what waits, what failed, and what to do about it",
        example="nanohost status --json",
        arguments=Status,
        run=_status,
        render=_render,
    ),
)
