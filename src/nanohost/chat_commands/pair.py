"""/pair: have a code made that makes whoever types it an owner. On the command line it is `nanohost pair`."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from pydantic import Field

from nanohost.access.codes import issue
from nanohost.arguments import Arguments
from nanohost.chat_commands.command import Who
from nanohost.chat_commands.host_command import HostAsked, HostCommand
from nanohost.errors import UsageError
from nanohost.phrases import planned_time
from nanohost.store.codes import Purpose


class _Arguments(Arguments):
    channel: str = Field("", description="the name of a channel (default: this one)")


def known_channel(name: str, channels: Collection[str], *, again: str, addable: Collection[str] = ()) -> str:
    """The name, if it is one. Raises UsageError saying which are set up. `again`: what to type before the right one;
    `addable`: the channels that there are, where whoever typed it could set one up."""
    if name in channels:
        return name
    near = difflib.get_close_matches(name, channels, 1)
    there = ", ".join(sorted(channels)) or "none"
    hint = f"{again} {near[0]}" if near else "nanohost channels list"
    if name in addable:
        hint = f"nanohost channels add {name}"
    raise UsageError(f"no channel {name[:40]!r} is set up, but these are: {there}", hint=hint)


async def _pair(asked: HostAsked, given: _Arguments) -> str:
    actor = asked.actor
    here = actor.place.channel_type if actor.place else ""
    channel = known_channel(given.channel.partition(":")[0] or here, asked.channels, again="/pair")
    issued = await issue(
        asked.tx,
        Purpose.OWNER,
        channel_type=channel,
        user_id=None,
        created_by=actor.who,
        origin=actor.origin,
        now=asked.now,
    )
    until = planned_time(issued.expires_at, asked.now, asked.zone)
    said = (
        f"{issued.code}\nWhoever writes this to me on {channel}, in a direct message and before {until}, is an owner "
        "then and may do everything. It works once; give it to nobody else."
    )
    trouble = asked.trouble_of(channel)
    return f"{said}\nBut {channel} is not connected now, and nobody reads it there: {trouble}" if trouble else said


COMMAND = HostCommand(
    name="pair",
    help="have a code made that makes somebody an owner",
    example="/pair telegram",
    carry_out=_pair,
    arguments=_Arguments,
    who=Who.OWNER,
    private=True,
    in_shell=False,
)
