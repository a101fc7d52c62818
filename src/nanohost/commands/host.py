"""Makes the host commands of chats available on the command line, for users of the machine."""

from __future__ import annotations

from nanohost.arguments import CommandArguments
from nanohost.chat_commands.host_command import Actor, HostCommand, HostCommandInvocation
from nanohost.chat_commands.registry import host_commands
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.tables import Json, replace_control_chars, to_json
from nanohost.config.settings import channel_instances
from nanohost.db import audit
from nanohost.text.translation import english


def local_actor(context: CommandContext) -> Actor:
    """Returns the actor for a user of the machine, who may do everything."""
    return Actor(id=context.who, name=audit.local_name(context.who) or context.who, is_local=True)


def _as_shell_command(one: HostCommand) -> Command:
    async def run(context: CommandContext, arguments: CommandArguments) -> Json:
        now, zone = context.clock.now(), context.settings.zone
        prefetched = await one.run_prefetch(context.store.reports, now, zone)
        async with context.store.transaction() as tx:
            invocation = HostCommandInvocation(
                tx=tx,
                actor=local_actor(context),
                now=now,
                zone=zone,
                channels={one.name for one in channel_instances(context.settings) if one.is_enabled},
                prefetched=prefetched,
            )
            with english():
                answer = await one.execute(invocation, arguments)
            data = {} if one.json_data is None else await one.json_data(invocation)
        return {"answer": answer, **{key: to_json(value) for key, value in data.items()}}

    return Command(
        words=one.name,
        help=one.help,
        example=f"nanohost {one.example.removeprefix('/')}",
        arguments=one.arguments,
        run=run,
        render=_render,
        positional=tuple(one.arguments.model_fields),
    )


def _render(result: Json) -> str:
    return replace_control_chars(str(result["answer"]) if isinstance(result, dict) else str(result))


COMMANDS = tuple(_as_shell_command(one) for one in host_commands().values() if one.is_in_shell)
