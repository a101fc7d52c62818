"""/pair: issue a code that makes the person who types it an owner. On the command line it is `nanohost pair`."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from pydantic import Field

from nanohost.access.codes import issue
from nanohost.arguments import CommandArguments
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import HostCommand, HostCommandInvocation
from nanohost.db.codes import CodePurpose
from nanohost.errors import UsageError
from nanohost.text.phrases import format_time_with_zone
from nanohost.text.translation import _, gettext_noop, lazy_gettext, translate


class _Arguments(CommandArguments):
    channel: str = Field("", description=gettext_noop("the name of a channel (default: this one)"))


def check_channel(name: str, channels: Collection[str], *, command_prefix: str, available: Collection[str] = ()) -> str:
    """Returns the name of a configured channel. Raises UsageError that lists the configured ones.

    `command_prefix`: what to type before a correct name. `available`: all known channels, if the actor can set one up.
    """
    if name in channels:
        return name
    near = difflib.get_close_matches(name, channels, 1)
    there = ", ".join(sorted(channels)) or lazy_gettext("none")
    hint = f"{command_prefix} {near[0]}" if near else "nanohost channels list"
    if name in available:
        hint = f"nanohost channels create {name}"
    raise UsageError(
        lazy_gettext("no channel {name} is set up, but these are: {channels}", name=repr(name[:40]), channels=there),
        hint=hint,
    )


async def _pair(invocation: HostCommandInvocation, arguments: _Arguments) -> str:
    actor = invocation.actor
    here = actor.chat.channel_type if actor.chat else ""
    channel = check_channel(arguments.channel.partition(":")[0] or here, invocation.channels, command_prefix="/pair")
    issued = await issue(
        invocation.tx,
        CodePurpose.OWNER,
        channel_type=channel,
        user_id=None,
        created_by=actor.id,
        origin=actor.origin,
        now=invocation.now,
    )
    until = format_time_with_zone(issued.expires_at, invocation.now, invocation.zone)
    how = _(
        "Whoever writes this to me on {channel}, in a direct message and before {time}, is an owner then and may do"
        " everything. It works once; give it to nobody else.",
        channel=channel,
        time=until,
    )
    said = f"{issued.code}\n{how}"
    trouble = invocation.channel_problem(channel)
    if not trouble:
        return said
    problem = _(
        "But {channel} is not connected now, and nobody reads it there: {problem}",
        channel=channel,
        problem=translate(trouble),
    )
    return f"{said}\n{problem}"


COMMAND = HostCommand(
    name="pair",
    help=gettext_noop("create a code that makes somebody an owner"),
    example="/pair telegram",
    execute=_pair,
    arguments=_Arguments,
    required_role=RequiredRole.OWNER,
    is_direct_only=True,
    is_in_shell=False,
)
