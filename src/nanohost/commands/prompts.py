"""Asks a person again if the typed value does not work. Without a prompt, the first value counts."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nanohost.errors import NanohostError
from nanohost.text.terminal_safe import replace_control_chars

MAX_ATTEMPTS = 3
T = TypeVar("T")


def is_interactive() -> bool:
    return sys.stdin.isatty()


async def retry_until_valid(
    attempt: Callable[[], Awaitable[T]], *, was_prompted: bool, is_input_error: Callable[[NanohostError], bool]
) -> T:
    """Returns the result of `attempt`, which asks and tries the answer; repeats it if `is_input_error` says that the
    typed value is the cause. Raises NanohostError that says that nothing was saved."""
    tries = MAX_ATTEMPTS if was_prompted and is_interactive() else 1
    while True:
        tries -= 1
        try:
            return await attempt()
        except NanohostError as error:
            if not tries or not is_input_error(error):
                raise type(error)(f"{error}; nothing was saved", hint=error.hint) from error
            sys.stderr.write(f"{replace_control_chars(str(error))}. Nothing was saved. Once more (Ctrl-C leaves):\n")
