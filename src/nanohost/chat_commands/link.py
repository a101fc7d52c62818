"""/link: be known as one person on two platforms. The code that it gives is typed on the other one."""

from __future__ import annotations

from nanohost.access.codes import issue
from nanohost.arguments import Arguments
from nanohost.chat_commands.command import Who
from nanohost.chat_commands.host_command import HostAsked, HostCommand
from nanohost.phrases import planned_time
from nanohost.store.codes import Purpose


async def _link(asked: HostAsked, _: Arguments) -> str:
    actor = asked.actor
    issued = await issue(
        asked.tx,
        Purpose.LINK,
        channel_type=None,
        user_id=actor.who,
        created_by=actor.who,
        origin=actor.origin,
        now=asked.now,
    )
    until = planned_time(issued.expires_at, asked.now, asked.zone)
    return (
        f"{issued.code}\nWrite this to me on the other platform, in a direct message and before {until}: you may do "
        "the same there as here then. It works once; give it to nobody."
    )


COMMAND = HostCommand(
    name="link",
    help="be known to me on another platform, too",
    example="/link",
    carry_out=_link,
    who=Who.KNOWN,
    private=True,
    in_shell=False,
)
