"""The stubs of Telegram and of the model's service, in a separate thread, because a story blocks on programs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

from nanohost.testing.simulator import Person, ScreenMessage
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.messages_api import StubMessagesApi

T = TypeVar("T")
KEY = "sk-ant-api03-the-right-one"


class StubPlatforms:
    """Both serve while `running` is entered. All calls run in their thread."""

    def __init__(self) -> None:
        self.telegram = TelegramSimulator()
        self.model = StubMessagesApi(key=KEY)
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._loop.run_forever, name="platforms")
        thread.start()
        stack = AsyncExitStack()
        try:
            self.run_in_loop(stack.enter_async_context(self.telegram.running()))
            self.run_in_loop(stack.enter_async_context(self.model))
            yield
        finally:
            self.run_in_loop(stack.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def run_in_loop(self, wanted: Coroutine[Any, Any, T]) -> T:
        """The result of the coroutine. Raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(wanted, self._loop).result(scaled_timeout(HANG_TIMEOUT_S * 2))

    def write_message(self, person: Person, text: str) -> None:
        """Somebody writes to the bot on Telegram."""
        self.run_in_loop(self.telegram.write(person.id, text, person=person))

    def revoke(self, token: str) -> None:
        """@BotFather gives another token: the old one is invalid at once, also for requests in progress."""

        async def revoke() -> None:
            self.telegram.token = token
            await self.telegram.start_outage()
            await self.telegram.end_outage()

        self.run_in_loop(revoke())

    def wait_for_text(self, person: Person, words: str) -> ScreenMessage:
        """The message with this text, once it is on this person's screen."""

        def found() -> list[ScreenMessage]:
            return [one for one in self.telegram.screen(person.id) if words in one.text]

        self.wait_until(lambda: bool(found()), f"{person.name} sees {words!r}")
        return found()[-1]

    def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait until something happened on Telegram."""
        try:
            self.run_in_loop(self.telegram.wait_until(happened))
        except TimeoutError:
            screens = "\n".join(f"{one.chat} {one.sender}: {one.text}" for one in self.telegram.screen(sender=None))
            raise AssertionError(f"never happened: {what}; the screens:\n{screens}") from None

    def press_button(self, person: Person, card: ScreenMessage, label: str) -> None:
        self.run_in_loop(self.telegram.press(card, label, person=person))
