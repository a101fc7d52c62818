"""The host's commands that people type in chats, on the command line: given by whoever is at the machine."""

from __future__ import annotations

from nanohost.arguments import Arguments
from nanohost.chat_commands.host_command import Actor, HostAsked, HostCommand
from nanohost.chat_commands.registry import host_commands
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.show import Json, harmless, plain
from nanohost.settings import channel_instances
from nanohost.store import audit


def local_actor(context: CommandContext) -> Actor:
    """Whoever is at the machine: may do everything."""
    return Actor(who=context.who, name=audit.local_name(context.who) or context.who, is_local=True)


def _in_shell(one: HostCommand) -> Command:
    async def run(context: CommandContext, arguments: Arguments) -> Json:
        now, zone = context.clock.now(), context.settings.zone
        seen = await one.seen(context.store.reports, now, zone)
        async with context.store.transaction() as tx:
            asked = HostAsked(
                tx=tx,
                actor=local_actor(context),
                now=now,
                zone=zone,
                channels={one.name for one in channel_instances(context.settings) if one.enabled},
                seen=seen,
            )
            said = await one.carry_out(asked, arguments)
            data = {} if one.data is None else await one.data(asked)
        return {"answer": said, **{key: plain(value) for key, value in data.items()}}

    return Command(
        words=one.name,
        help=one.help,
        example=f"nanohost {one.example.removeprefix('/')}",
        arguments=one.arguments,
        run=run,
        render=_words,
        positional=tuple(one.arguments.model_fields),
    )


def _words(result: Json) -> str:
    return harmless(str(result["answer"]) if isinstance(result, dict) else str(result))


COMMANDS = tuple(_in_shell(one) for one in host_commands().values() if one.in_shell)
