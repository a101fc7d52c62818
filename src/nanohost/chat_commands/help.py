"""/help: what can be typed here."""

from __future__ import annotations

from nanohost.chat_commands.command import Asked, CarryOut, ChatCommand, Effect, Who
from nanohost.chat_commands.registry import chat_commands


async def _prepare(asked: Asked) -> CarryOut:
    shown = [one for one in chat_commands().values() if asked.is_admin or one.who is Who.ANYONE]
    lines = [f"/{one.name}: {one.help}" for one in shown]
    text = "\n".join(["Write to me as you would to a person. These words are for my host:", *lines])
    return lambda _: Effect(answer=text)


COMMAND = ChatCommand(name="help", help="show this", prepare=_prepare)
