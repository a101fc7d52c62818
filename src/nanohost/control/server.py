"""Answers operators' commands on the control socket of a running host, in the process that has the database.

Its mode is 0600: only the user who runs the host can open it. Invalid input gets an error as answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import structlog

from nanohost.commands.context import CommandContext, local_user_id
from nanohost.commands.old_words import command_now
from nanohost.commands.registry import find_command
from nanohost.commands.tables import dump_json
from nanohost.control.protocol import MAX_LINE_BYTES, OUTPUT_FORMATS, encode_error
from nanohost.errors import NanohostError, UsageError
from nanohost.net.socket_path import short_socket_path

UCRED = struct.Struct("3i")
"""Process, user and group of a socket's other end: struct ucred of Linux."""

_log = structlog.get_logger()


@asynccontextmanager
async def serve_control_socket(context: CommandContext) -> AsyncIterator[None]:
    """Answers commands while entered. The caller holds the home's lock, so an old socket file is unused."""
    path = context.home.control_socket
    path.unlink(missing_ok=True)
    clients: set[asyncio.Task[None]] = set()

    def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.ensure_future(_serve_client(context, reader, writer))
        clients.add(client)
        client.add_done_callback(clients.discard)

    with short_socket_path(path) as short:
        server = await asyncio.start_unix_server(on_client, short, limit=MAX_LINE_BYTES)
        path.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def _serve_client(context: CommandContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    context = _with_peer_user(writer.get_extra_info("socket"), context)
    try:
        while line := await reader.readline():
            writer.write(json.dumps(await _handle_request(context, line)).encode() + b"\n")
            await writer.drain()
    except (ConnectionError, ValueError):
        return  # it disconnected, or sent a line without an end
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _with_peer_user(client: socket.socket, context: CommandContext) -> CommandContext:
    """Returns the context with the user of the client, if the system reports it: root can connect, too."""
    try:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    except (AttributeError, OSError):
        return context
    return replace(context, who=local_user_id(UCRED.unpack(credentials)[1]))


async def _handle_request(context: CommandContext, line: bytes) -> dict[str, object]:
    words = ""
    try:
        words, arguments, form = _parse_request(line)
        words, arguments, hint = command_now(words, arguments)
        hint_field = {"hint": hint} if hint else {}
        command = find_command(words)
        result = await command.execute(context, arguments)
        if form not in OUTPUT_FORMATS:
            return {"ok": True, "result": result, **hint_field}
        # Rendering a long table takes time: keep it off the event loop.
        zone = context.settings.zone
        for_people = partial(command.render_in_zone, zone=zone)
        text = await asyncio.to_thread(dump_json if form == "json" else for_people, result)
        return {"ok": True, "text": text, "failed": command.is_failure(result), **hint_field}
    except NanohostError as error:
        return encode_error(error)
    except Exception as error:
        _log.error("command_failed", command=words[:80], exc_info=error)  # without its arguments: they may be a message
        return encode_error(
            NanohostError(f"the command failed: {type(error).__name__}: {error}", hint="the log has more")
        )


def _parse_request(line: bytes) -> tuple[str, dict[str, object], object]:
    try:
        request = json.loads(line)
        words, arguments, form = request["command"], request.get("arguments", {}), request.get("form")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        words, arguments, form = None, None, None
    if not isinstance(words, str) or not isinstance(arguments, dict):
        raise UsageError("that is not a command", hint='{"command": "status", "arguments": {}}')
    return words, arguments, form
