"""What a person typed does not work: they are asked again. Where nobody was asked, the first answer counts."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nanohost.errors import NanohostError
from nanohost.harmless import harmless

MOST_TRIES = 3
T = TypeVar("T")


def is_somebody_there() -> bool:
    return sys.stdin.isatty()


async def until_it_works(
    attempt: Callable[[], Awaitable[T]], *, was_asked: bool, is_typed: Callable[[NanohostError], bool]
) -> T:
    """What `attempt` returns: it asks, and tries what was answered. Again where `is_typed` says that an error is about
    what was typed. Raises NanohostError that says that nothing was saved."""
    tries = MOST_TRIES if was_asked and is_somebody_there() else 1
    while True:
        tries -= 1
        try:
            return await attempt()
        except NanohostError as error:
            if not tries or not is_typed(error):
                raise type(error)(f"{error}; nothing was saved", hint=error.hint) from error
            sys.stderr.write(f"{harmless(str(error))}. Nothing was saved. Once more (Ctrl-C leaves):\n")
