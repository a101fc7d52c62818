"""Tries whether the model can be asked with this key at this address, by requests that cost nothing.

The list of models is free wherever there is one. A service of one's own that has none is sent a message that it cannot
but refuse, since nothing is in it. `judge_*` are pure; nothing is tried twice and no redirect followed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from nanohost.gateway.headers import request_headers
from nanohost.gateway.health import Complaint, Unknown, key_refused, key_unfit, no_key, unreachable, wrong_address
from nanohost.gateway.upstream import Upstream

MODELS, MESSAGES = "/v1/models?limit=1", "/v1/messages"
API_VERSION = "2023-06-01"
"""The service takes no request without; every client of its sends this one."""
TIMEOUT = aiohttp.ClientTimeout(total=10.0)
MOST_BYTES = 64 * 1024
"""Of an answer that is looked at."""
MOST_WORDS = 200
"""Characters of what the service says."""
NO_SUCH_WAY, REFUSES = {404, 405, 501}, {401, 403}
"""HTTP statuses. A key may be for messages alone: one that no list is given for is tried with a message, too."""
EMPTY = {400, 422}
"""HTTP statuses of a service that took the key, and looked into a message without content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An answer: its status, the JSON object in it if it is one, and what it says is wrong."""

    status: int
    is_object: bool = False
    words: str = ""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


async def probe(http: aiohttp.ClientSession, upstream: Upstream) -> Complaint | Unknown | None:
    """What is wrong; None: the model can be asked."""
    if not upstream.usable:
        return no_key(upstream)
    if upstream.api_key and not _fits_a_header(upstream.api_key):
        return key_unfit(upstream)
    try:
        heard = await _ask(http, upstream, "GET", MODELS)
        if heard.status not in NO_SUCH_WAY | REFUSES:
            return judge_models(heard, upstream)
        return judge_message(heard, await _ask(http, upstream, "POST", MESSAGES), upstream)
    except TimeoutError:
        return unreachable(upstream, f"no answer within {TIMEOUT.total:g} s")
    except aiohttp.ClientConnectorError as error:
        return unreachable(upstream, str(error.os_error.strerror or error.os_error))
    except aiohttp.ClientHttpProxyError as error:
        return unreachable(upstream, f"the proxy answers {error.status}")
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        return unreachable(upstream, "it closes the connection")
    except ValueError:  # also the library's own of this kind
        return wrong_address(upstream, "it cannot be read as one")
    except (aiohttp.ClientError, OSError) as error:
        return wrong_address(upstream, f"what answers there speaks no HTTP ({type(error).__name__})")


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key


def judge_models(heard: Heard, upstream: Upstream) -> Complaint | Unknown | None:
    """What the answer to the list of models says."""
    if heard.is_success:
        return None if heard.is_object else wrong_address(upstream, "a page answers there, and no list of models")
    return _judged(heard, upstream)


def judge_message(models: Heard, heard: Heard, upstream: Upstream) -> Complaint | Unknown | None:
    """What the answer to a message without content says, after there was no list of models."""
    if heard.status in NO_SUCH_WAY and models.status in REFUSES:
        return _judged(models, upstream)
    if heard.status in NO_SUCH_WAY:
        return wrong_address(upstream, f"neither models nor messages are there ({heard.status})")
    if heard.is_success and not heard.is_object:
        return wrong_address(upstream, "a page answers there, and no model")
    if heard.is_success or heard.status in EMPTY:
        return None
    return _judged(heard, upstream)


def _judged(heard: Heard, upstream: Upstream) -> Complaint | Unknown:
    if heard.status in REFUSES:
        return key_refused(upstream, heard.status, heard.words)
    if 300 <= heard.status < 400:
        return wrong_address(upstream, "it answers with a redirect, which is never followed")
    return Unknown(status=heard.status)


async def _ask(http: aiohttp.ClientSession, upstream: Upstream, method: str, target: str) -> Heard:
    body = b"{}" if method == "POST" else None
    given = CIMultiDict({"anthropic-version": API_VERSION, "content-type": "application/json"})
    async with http.request(
        method,
        URL(upstream.url(target), encoded=True),
        headers=request_headers(given, upstream.api_key),
        data=body,
        allow_redirects=False,
        timeout=TIMEOUT,
    ) as answer:
        content = await answer.content.read(MOST_BYTES)
    return _heard(answer.status, content, upstream.api_key or "")


def _heard(status: int, content: bytes, key: str) -> Heard:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        # A long list of models may be cut; a page begins otherwise.
        return Heard(status=status, is_object=content.lstrip()[:1] == b"{")
    error = found.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    words = "".join(char for char in said if char.isprintable()) if isinstance(said, str) else ""
    return Heard(
        status=status, is_object=True, words=words.replace(key, "…")[:MOST_WORDS] if key else words[:MOST_WORDS]
    )
