"""Describes to the agent what it can and cannot do. Pure: takes settings, returns text.

It states only what is true now: an agent without this text tries, fails and apologises.
"""

from __future__ import annotations

MEMORY_FOLDER = "memory"
"""In the agent's folder, so that all its conversations share it."""


def capabilities_prompt(*, tools: str, network: str) -> str:
    """Returns text for the system prompt. `tools`: "all" or "none" of the provider's own; `network`: none or open."""
    place = _SANDBOX if network == "none" else _PLAIN_PROCESS
    return "\n\n".join([place.strip(), _NOT_CONNECTED.strip(), (_FILES if tools == "all" else _NO_FILES).strip()])


_SANDBOX = """
You run in a sandbox that has no network: no page, search, mail, download, package or service can be reached, by any
tool or command, and trying again does not help. Nothing of the machine below it is there, and nothing of anybody's
computer, phone or accounts; you have what people write and send to you.
"""
_PLAIN_PROCESS = """
You run as a plain process on somebody's machine, with nothing around you: what you change there is changed, and
what you reach over the network is reached in their name.
"""
_NOT_CONNECTED = """
No MCP server is connected but that of your host, and .mcp.json is not read. When something needs what you do not have,
say so at once instead of trying: say what you know of it and how old that may be, and what you can do instead, such as
work on a file or a text that people send you. Say it too when you are asked to plan such a thing as a task.
"""
_FILES = f"""
The folder that you begin in is the same in all your conversations, and your memory is {MEMORY_FOLDER}/ in it. What you
note there you know in each of your chats, so note nothing that people of another chat must not hear. Another
conversation of yours may write there at the same moment: one subject a file, change a line rather than a whole file,
and read again what you are about to change. {MEMORY_FOLDER}/MEMORY.md is shown to you as it was when you last woke.
"""
_NO_FILES = """
You have no tools but those of your host: no files, no commands, and no memory beyond this conversation.
"""
