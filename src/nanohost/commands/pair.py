"""Issues a code, on the machine itself, that makes the person who types it to the bot an owner."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta

from pydantic import Field

from nanohost.access import codes as access
from nanohost.access.codes import LIFETIMES, LOCKOUT
from nanohost.arguments import CommandArguments
from nanohost.channels.loader import ChannelCatalogue, discover
from nanohost.channels.manager import CONNECTED
from nanohost.chat_commands.pair import check_channel
from nanohost.commands.channel_setup import parse_channel
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.host import local_actor
from nanohost.commands.qr import qr_for_terminal
from nanohost.commands.setup import MAIN_GROUP, TERMINAL_CHANNEL, ensure_group
from nanohost.commands.tables import Json, replace_control_chars
from nanohost.config.settings import channel_instances
from nanohost.db import agent_groups, codes
from nanohost.db.codes import CodePurpose
from nanohost.errors import UsageError

NO_HOST_STATE = "no host runs"
MAX_NAMED_USERS = 5
"""The most users with wrong codes that are listed."""


class PairArgs(CommandArguments):
    channel: str = Field(description="the channel, as NAME or NAME:INSTANCE")


async def _pair(context: CommandContext, arguments: PairArgs) -> Json:
    name, instance = parse_channel(arguments.channel)
    state = _channel_state(context, name, instance, await asyncio.to_thread(discover, context.home.channel_folders))
    if not await agent_groups.list_all(context.store):  # an owner without an agent could do nothing
        await ensure_group(context.store, context.home, MAIN_GROUP, who=context.who, now=context.clock.now())
    actor, now = local_actor(context), context.clock.now()
    async with context.store.transaction() as tx:
        issued = await access.issue(
            tx,
            CodePurpose.OWNER,
            channel_type=name,
            user_id=None,
            created_by=actor.id,
            origin=actor.origin,
            now=now,
        )
    reports, since = context.store.reports, now - LOCKOUT
    silent = await codes.list_recent_guesses(reports, name, since=since, now=now, limit=MAX_NAMED_USERS)
    link = await context.host.deep_link(name, instance, issued.code) if context.host else None
    return {
        "channel": f"{name}:{instance}",
        "state": state,
        "code": issued.code,
        "expires_at": issued.expires_at.isoformat(timespec="seconds"),
        "link": link,
        "not_heard": [one.user_id for one in silent],
    }


def _channel_state(context: CommandContext, name: str, instance: str, catalogue: ChannelCatalogue) -> str:
    """Returns the channel's state. Raises UsageError if it is not configured, or disabled."""
    off = {(one.name, one.instance) for one in channel_instances(context.settings) if not one.is_enabled}
    if context.host is None:
        states = {
            (one.name, one.instance): NO_HOST_STATE for one in channel_instances(context.settings) if one.is_enabled
        }
        states.setdefault(TERMINAL_CHANNEL, NO_HOST_STATE)
    else:
        rows = context.host.report()["channels"]
        assert isinstance(rows, list), "a list of rows"
        states = {}
        for row in rows:
            assert isinstance(row, dict), "a row"
            words = f"{row['state']} ({row['detail']})" if row["detail"] else str(row["state"])
            states[str(row["name"]), str(row["instance"])] = words
    if (name, instance) in off and (name, instance) not in states:
        typed = name if instance == "default" else f"{name}:{instance}"
        raise UsageError(f"{name}:{instance} is disabled", hint=f"nanohost channels enable {typed}")
    check_channel(
        name, {channel for channel, _ in states}, command_prefix="nanohost pair", available=catalogue.available
    )
    if (name, instance) not in states:
        there = [one for channel, one in sorted(states) if channel == name]
        raise UsageError(
            f"{name} has no instance {instance!r}, but these: {', '.join(there)}",
            hint=f"nanohost pair {name}:{there[0]}",
        )
    return states[name, instance]


def _render(result: Json) -> str:
    assert isinstance(result, Mapping), "what it answers with"
    name, minutes = (
        str(result["channel"]).removesuffix(":default"),
        LIFETIMES[CodePurpose.OWNER] // timedelta(minutes=1),
    )
    lines = [
        f"Write this and nothing else to the bot on {name}, in a direct message, within {minutes} minutes:",
        "",
        f"    {result['code']}",
        "",
        *(_link_lines(replace_control_chars(str(result["link"]))) if result["link"] else []),
        "Whoever does is an owner and may do everything. It works once; after a wrong one they wait an hour.",
    ]
    if result["state"] == NO_HOST_STATE:
        lines.append("No host runs yet, so nobody reads it: start one with nanohost run.")
    elif result["state"] != CONNECTED:
        lines.append(f"{name} is not connected now: {replace_control_chars(str(result['state']))}")
    if silent := result["not_heard"]:
        assert isinstance(silent, Sequence), "users"
        lines += _locked_out_lines([replace_control_chars(str(user)) for user in silent])
    return "\n".join(lines)


def _link_lines(link: str) -> list[str]:
    """Returns the link, in a terminal also as a QR code, because the app is usually on a phone."""
    picture = qr_for_terminal(link)
    scanned = [] if picture is None else ["or scan it with the phone:", "", picture, ""]
    return [f"or open {link}", "", *scanned]


def _locked_out_lines(users: Sequence[str]) -> list[str]:
    """Lists locked-out users. It offers no ready command, because one of several could be an unknown sender, who would
    become an owner."""
    who, yours = ("that was you", shlex.quote(users[0])) if len(users) == 1 else ("one of them is you", "YOURS")
    return [
        f"Not listened to for an hour after a wrong code: {', '.join(users)}.",
        f"If {who}: nanohost roles create {yours} owner",
    ]


COMMANDS = (
    Command(
        words="pair",
        can_create_install=True,
        is_rendered_locally=True,
        help="make a one-time code; whoever types it to the bot in a direct message is an owner",
        example="nanohost pair telegram",
        arguments=PairArgs,
        run=_pair,
        render=_render,
        positional=("channel",),
    ),
)
