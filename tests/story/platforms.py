"""The stand-ins of Telegram and of the model's service, in a thread of their own: a story waits for programs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

from nanohost.testing.limits import HANG_S, seconds
from nanohost.testing.simulator import Person, Shown
from nanohost.testing.simulators.telegram import TelegramSimulator
from tests.support.messages_api import MessagesApi

T = TypeVar("T")
KEY = "sk-ant-api03-the-right-one"


class Platforms:
    """Both serve while `running` is entered. What is done with them is done in their thread."""

    def __init__(self) -> None:
        self.telegram = TelegramSimulator()
        self.model = MessagesApi(key=KEY)
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._loop.run_forever, name="platforms")
        thread.start()
        stack = AsyncExitStack()
        try:
            self.done(stack.enter_async_context(self.telegram.running()))
            self.done(stack.enter_async_context(self.model))
            yield
        finally:
            self.done(stack.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def done(self, wanted: Coroutine[Any, Any, T]) -> T:
        """What comes of it. Raises TimeoutError when nothing does."""
        return asyncio.run_coroutine_threadsafe(wanted, self._loop).result(seconds(HANG_S * 2))

    def writes(self, person: Person, text: str) -> None:
        """Somebody writes to the bot on Telegram."""
        self.done(self.telegram.write(person.id, text, person=person))

    def revoke(self, token: str) -> None:
        """@BotFather gives another token: the one before is dead at once, also for who is being answered."""

        async def revoke() -> None:
            self.telegram.token = token
            await self.telegram.go_down()
            await self.telegram.go_up()

        self.done(revoke())

    def sees(self, person: Person, words: str) -> Shown:
        """The message with these words, once it is on the screen of this person."""

        def found() -> list[Shown]:
            return [one for one in self.telegram.screen(person.id) if words in one.text]

        self.until(lambda: bool(found()), f"{person.name} sees {words!r}")
        return found()[-1]

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait until something happened on Telegram."""
        try:
            self.done(self.telegram.until(happened))
        except TimeoutError:
            screens = "\n".join(f"{one.chat} {one.sender}: {one.text}" for one in self.telegram.screen(sender=None))
            raise AssertionError(f"never happened: {what}; the screens:\n{screens}") from None

    def presses(self, person: Person, card: Shown, label: str) -> None:
        self.done(self.telegram.press(card, label, person=person))
