"""A loopback stand-in of the Messages API: says what a test tells it to, remembers what it was asked.

    async with StubMessagesApi() as api:
        api.replies.append(ToolUse("Bash", {"command": "date"}))
        ...                                         # a client talks to api.base_url
        assert api.messages[0].user_text == "what time is it?"

A POST /v1/messages is answered by the first rule that fits, else by the next of `replies` (each is used once), else
by an echo of what the user said last. It speaks the shapes of the real thing, streamed and not, and can misbehave:
refuse, hold back, break off, talk nonsense. It checks nothing but the key, and that only when given one.

By hand: python -m tests.support.messages_api --port 8765 --reply "Hello."
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from nanohost.testing.reserved_port import ReservedPort

JsonObject = dict[str, Any]

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The usage a reply claims."""

    input: int = 10
    output: int = 5
    cache_read: int = 0
    cache_written: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """Answers with text, word by word when streamed. With a `gate`, everything after the first word waits for it."""

    text: str
    tokens: Tokens = Tokens()
    gate: asyncio.Event | None = None
    thinking: str = ""
    """What it thinks before, in a block of its own, signed."""
    stop_reason: str = "end_turn"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Asks the client to run a tool; what the client sends back is the next request."""

    name: str
    input: JsonObject
    text: str = ""
    tokens: Tokens = Tokens()


@dataclass(frozen=True, slots=True)
class DroppedConnection:
    """Begins the answer, sends the first word, and breaks the connection."""

    text: str = "This sentence is never finished"


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answers 200 with bytes that mean nothing."""

    body: bytes = b"data: {\x00\xff\n\nevent: message_start\ndata: [1,2\n\n"
    content_type: str = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Failure:
    """Answers with an error of the API's own shape."""

    status: int
    type: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


UNAUTHORIZED = Failure(401, "authentication_error", "invalid x-api-key")
OVERLOADED = Failure(529, "overloaded_error", "Overloaded")


def rate_limited(retry_after_s: int = 0) -> Failure:
    """429, with the pause the API asks for."""
    headers = {"retry-after": str(retry_after_s)}
    return Failure(429, "rate_limit_error", "This request would exceed the rate limit.", headers)


@dataclass(slots=True)
class RecordedRequest:
    """One request as it arrived. Header names are lower case; `body` is empty when it was not a JSON object."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: JsonObject
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first word of an answer that has a gate is out."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the answer is out, or nobody wants it any more."""
    is_abandoned: bool = False
    """The client left before the answer was complete."""

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def is_streamed(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def tool_names(self) -> list[str]:
        return [str(tool.get("name", "")) for tool in self.body.get("tools", [])]

    @property
    def user_text(self) -> str:
        """What the user said last, without what the client wove in: the text, or the results of tools."""
        users = [m for m in self.body.get("messages", []) if m.get("role") == "user"]
        texts = [_REMINDER.sub("", text).strip() for text in _texts(users[-1]["content"])] if users else []
        return "\n".join(text for text in texts if text)

    @property
    def files(self) -> list[tuple[str, bytes]]:
        """The pictures and documents in the conversation, as what and which bytes, in order."""
        return [file for message in self.body.get("messages", []) for file in _files(message.get("content"))]


_STOP_REASONS = {ToolUse: "tool_use", DroppedConnection: "end_turn"}

Reply = Text | ToolUse | DroppedConnection | Garbage | Failure
Script = Reply | Callable[[RecordedRequest], Reply]
"""A reply, or a function that makes one from what was asked."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Answers every request that fits, as often as it comes."""

    matches: Callable[[RecordedRequest], bool]
    script: Script


class StubMessagesApi:
    """The stand-in. Entered, it listens on a free port of 127.0.0.1 (or on `port`); left, nothing of it remains."""

    def __init__(self, *, port: int = 0, key: str | None = None, default: Script | None = None) -> None:
        self.requests: list[RecordedRequest] = []
        self.replies: deque[Script] = deque()
        self.rules: list[Rule] = []
        self.default: Script = default or _echo
        self.base_url = ""
        self._reserved_port = ReservedPort()
        self._port = port or self._reserved_port.number
        self._key = key
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ids = itertools.count(1)

    @property
    def messages(self) -> list[RecordedRequest]:
        """The requests for an answer; not the countings and probes."""
        return [asked for asked in self.requests if (asked.method, asked.path) == ("POST", "/v1/messages")]

    async def wait_for_requests(self, count: int) -> list[RecordedRequest]:
        """Wait until `count` requests for an answer have come in. Bound it with asyncio.timeout."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.base_url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        asked = await _read_request(request)
        async with self._arrived:
            self.requests.append(asked)
            self._arrived.notify_all()
        self._tasks.add(task)
        try:
            return await self._answer(request, asked)
        except (asyncio.CancelledError, ConnectionError):
            asked.is_abandoned = True
            raise
        finally:
            self._tasks.discard(task)
            asked.ended.set()

    async def _answer(self, request: web.BaseRequest, asked: RecordedRequest) -> web.StreamResponse:
        if self._key is not None and not _has_key(asked, self._key):
            return _error_response(UNAUTHORIZED)
        match asked.method, asked.path:
            case "POST", "/v1/messages":
                return await self._reply(request, asked)
            case "POST", "/v1/messages/count_tokens":
                return web.json_response({"input_tokens": len(json.dumps(asked.body)) // 4})
            case "GET", "/v1/models":
                return web.json_response({"data": [_model_json("stand-in")], "has_more": False})
            case "GET", path if path.startswith("/v1/models/"):
                return web.json_response(_model_json(path.rpartition("/")[2]))
            case _:
                return _error_response(Failure(404, "not_found_error", f"{asked.method} {asked.path}"))

    def _select_script(self, asked: RecordedRequest) -> Script:
        for rule in self.rules:
            if rule.matches(asked):
                return rule.script
        return self.replies.popleft() if self.replies else self.default

    async def _reply(self, request: web.BaseRequest, asked: RecordedRequest) -> web.StreamResponse:
        script = self._select_script(asked)
        reply = script(asked) if callable(script) else script
        match reply:
            case Failure():
                return _error_response(reply)
            case Garbage():
                return web.Response(body=reply.body, headers={"content-type": reply.content_type})
            case Text() | ToolUse() | DroppedConnection() if asked.is_streamed:
                return await self._stream(request, reply, asked)
            case DroppedConnection():
                _close_connection(request)
                return web.Response()
            case _:
                if isinstance(reply, Text) and reply.gate is not None:
                    await reply.gate.wait()
                return web.json_response(self._message(reply, asked.model))

    async def _stream(
        self, request: web.BaseRequest, reply: Text | ToolUse | DroppedConnection, asked: RecordedRequest
    ) -> web.StreamResponse:
        """Three events bring the beginning of an answer and its first word; then a gate or a cut has its turn."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for number, event in enumerate(_events(self._message(reply, asked.model))):
            if number == 3 and isinstance(reply, Text) and reply.gate is not None:
                asked.started.set()
                await reply.gate.wait()
            if number == 3 and isinstance(reply, DroppedConnection):
                _close_connection(request)
                return response
            await response.write(event)
        await response.write_eof()
        return response

    def _message(self, reply: Text | ToolUse | DroppedConnection, model: str) -> JsonObject:
        number = next(self._ids)
        content: list[JsonObject] = []
        if isinstance(reply, Text) and reply.thinking:
            content.append({"type": "thinking", "thinking": reply.thinking, "signature": f"signed-{number}"})
        if reply.text:
            content.append({"type": "text", "text": reply.text})
        if isinstance(reply, ToolUse):
            tool = {"id": f"toolu_{number:06}", "name": reply.name, "input": reply.input}
            content.append({"type": "tool_use", **tool})
        tokens = Tokens() if isinstance(reply, DroppedConnection) else reply.tokens
        return {
            "id": f"msg_{number:06}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": reply.stop_reason if isinstance(reply, Text) else _STOP_REASONS[type(reply)],
            "stop_sequence": None,
            "usage": {
                "input_tokens": tokens.input,
                "cache_creation_input_tokens": tokens.cache_written,
                "cache_read_input_tokens": tokens.cache_read,
                "output_tokens": tokens.output,
            },
        }


def _echo(asked: RecordedRequest) -> Reply:
    return Text(f"stand-in: {asked.user_text}")


async def _read_request(request: web.BaseRequest) -> RecordedRequest:
    raw = b"".join([chunk async for chunk in request.content.iter_any()])
    body: object = None
    with suppress(ValueError):
        body = json.loads(raw)
    return RecordedRequest(
        method=request.method,
        path=request.path,
        query=request.query_string,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body if isinstance(body, dict) else {},
    )


def _texts(content: object) -> Iterator[str]:
    """Every text in a message's content: a string, or blocks, or blocks in the blocks of tool results."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for block in content:
            yield from _texts(block.get("text") if block.get("type") == "text" else block.get("content"))


def _files(content: object) -> Iterator[tuple[str, bytes]]:
    for block in content if isinstance(content, list) else []:
        if block.get("type") in ("image", "document") and block["source"]["type"] == "base64":
            yield block["type"], base64.b64decode(block["source"]["data"])
        yield from _files(block.get("content"))


def _has_key(asked: RecordedRequest, key: str) -> bool:
    return key == asked.headers.get("x-api-key") or f"Bearer {key}" == asked.headers.get("authorization")


def _model_json(name: str) -> JsonObject:
    return {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}


def _error_response(failure: Failure) -> web.Response:
    error = {"type": failure.type, "message": failure.message}
    body = {"type": "error", "error": error, "request_id": "req_standin"}
    return web.json_response(body, status=failure.status, headers=failure.headers)


def _close_connection(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()


def _events(message: JsonObject) -> Iterator[bytes]:
    """A whole message as the stream it would have come in."""
    usage = message["usage"]
    begun = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    yield _event("message_start", message=begun)
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage={"output_tokens": usage["output_tokens"]})
    yield _event("message_stop")


def _block_events(index: int, block: JsonObject) -> Iterator[bytes]:
    if block["type"] == "text":
        yield _event("content_block_start", index=index, content_block=block | {"text": ""})
        for word in re.findall(r"\S*\s*", block["text"])[:-1]:
            yield _event("content_block_delta", index=index, delta={"type": "text_delta", "text": word})
    elif block["type"] == "thinking":
        yield _event("content_block_start", index=index, content_block=block | {"thinking": "", "signature": ""})
        for kind in ("thinking", "signature"):
            yield _event("content_block_delta", index=index, delta={"type": f"{kind}_delta", kind: block[kind]})
    else:
        yield _event("content_block_start", index=index, content_block=block | {"input": {}})
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _event(name: str, **fields: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


async def _serve(port: int, reply: str | None) -> None:
    async with StubMessagesApi(port=port, default=Text(reply) if reply is not None else None) as api:
        sys.stdout.write(f"{api.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.messages_api",
        description="A stand-in of the Messages API on 127.0.0.1. Prints its base URL, then answers.",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--reply", metavar="TEXT", help="answer this every time (default: echo the user)")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.port, arguments.reply))


if __name__ == "__main__":
    main()
