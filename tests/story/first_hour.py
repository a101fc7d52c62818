"""A first hour: from a clone to a phone, a second person and an unknown sender."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nanohost.config import settings_file
from nanohost.testing.simulator import ADA, BOB, Person, ScreenMessage
from tests.cli.terminal import Terminal
from tests.story.machine import COLUMNS, Machine
from tests.story.placeholders import Placeholders
from tests.story.platforms import KEY, StubPlatforms
from tests.story.transcript import Transcript
from tests.support.messages_api import Text, ToolUse

UNKNOWN_PERSON = Person(id="1003", name="Eve")
CHECK_COMMAND = "python3 primes.py"
PROGRAM = "print(*(n for n in range(2, 100) if all(n % d for d in range(2, n))))\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Durations: real ones, or as short as a test needs them. The transcript is the same."""

    turn_s: int
    reminder_s: int


REAL = Timing(turn_s=20, reminder_s=10)
FAST = Timing(turn_s=4, reminder_s=2)


class FirstHourStory:
    """`folder` is somebody's home directory. Everything is ready once entered."""

    def __init__(self, folder: Path, pace: Timing) -> None:
        self.machine = Machine(folder)
        self.platforms = StubPlatforms()
        self.transcript = Transcript(Placeholders({str(folder): "/home/ada", f"in {pace.reminder_s}s": "in 10s"}))
        self._pace = pace

    def play(self) -> str:
        """The transcript, as Markdown. Everything is stopped afterwards."""
        self.machine.home.mkdir(parents=True, exist_ok=True)
        with self.platforms.running():
            try:
                self._without_a_key()
                settings_file.update_table(self.machine.home, ("agent",), {"base_url": self.platforms.model.base_url})
                self._with_a_key()
                self._a_long_turn()
                self._a_phone()
                with self.machine.run_host():
                    self._paired()
                    self._a_reminder()
                    self._a_second_person()
                    self._a_stranger()
            finally:
                self.machine.run("sessions", "stop", "all")
        return self.transcript.text()

    # --- at the terminal ---

    def _without_a_key(self) -> None:
        self.transcript.add_scene(
            "The first words",
            "No key is needed: a small demo answers. A machine in UTC asks where you are, once.",
        )
        with self.machine.terminal("chat") as chat:
            chat.wait_for_text("time zone [UTC]:")
            chat.send_line("Berlin")
            self._say(chat, "hello", "ask you to choose")
            self._say(chat, f"remind me in {self._pace.reminder_s}s to drink water", "Reminder: drink water")
            self._leave(chat, "make chat")

    def _with_a_key(self) -> None:
        self.transcript.add_scene("A wrong key, and the right one", "A key is tried before it is kept.")
        with self.machine.terminal("model", "set") as asked:
            asked.wait_for_text("(not shown):")
            asked.send_line("sk-ant-api03-mistyped")
            asked.wait_until(lambda text: text.count("(not shown):") == 2)
            asked.send_line(KEY)
            assert asked.ends() == 0, asked.text()
            self.transcript.add_terminal("nanohost model set", asked.text())
        self.transcript.add_terminal("nanohost model check", self.machine.run("model", "check"))

    def _a_long_turn(self) -> None:
        self.transcript.add_scene(
            "A turn of twenty seconds", "What is being done is seen above the line, where you can type ahead."
        )
        self.platforms.model.replies.extend(
            [
                ToolUse("Write", {"file_path": "/workspace/agent/primes.py", "content": PROGRAM}),
                ToolUse("Bash", {"command": f"sleep {self._pace.turn_s}; {CHECK_COMMAND}", "description": "Try it"}),
                Text("I wrote `primes.py` and tried it: there are **25 primes** below 100, from 2 to 97."),
                Text("541."),
            ]
        )
        with self.machine.terminal("chat", columns=COLUMNS) as chat:
            chat.wait_for_text("you>")
            chat.send_line("Write a program that prints the primes below 100, and try it.")
            chat.wait_until(lambda text: self._has_worked(text))
            chat.send_keys("thank y")
            self.transcript.add_terminal(
                "nanohost chat", chat.wait_until(lambda text: "Bash, " in text and text.endswith("you> thank y"))
            )
            chat.wait_for_text("from 2 to 97.")
            chat.send_keys("\x15")  # the typed-ahead text is deleted
            chat.wait_until(lambda text: text.endswith("you>"))
            self.transcript.add_text("And when it is done:")
            chat.send_line("/quit")
            assert chat.ends() == 0, chat.text()
            self.transcript.add_later_terminal(chat.text(), "you> Write")
        self.transcript.add_text(
            "From a script the reply alone goes to stdout; what the host has to say goes to stderr."
        )
        once = self.machine.run("chat", "--once", "Which is the 100th prime?")
        self.transcript.add_terminal('nanohost chat --once "Which is the 100th prime?"', once)

    def _has_worked(self, text: str) -> bool:
        found = re.search(r"Bash, (\d+) s", text)
        return found is not None and int(found[1]) >= self._pace.turn_s - 2

    def _say(self, chat: Terminal, line: str, answer: str) -> None:
        chat.wait_until(lambda text: text.endswith("you>"))
        chat.send_line(line)
        chat.wait_until(lambda text: answer in text and text.endswith("you>"))

    def _leave(self, chat: Terminal, typed: str) -> None:
        chat.send_line("/quit")
        assert chat.ends() == 0, chat.text()
        self.transcript.add_terminal(typed, chat.text())

    # --- with a phone ---

    def _a_phone(self) -> None:
        telegram = self.platforms.telegram
        self.transcript.add_scene("A phone", "The bot's token is from @BotFather, and is not shown while it is typed.")
        address = f"base_url={telegram.settings()['base_url']}"
        with self.machine.terminal("channels", "create", "telegram", "--set", address) as adding:
            adding.wait_for_text("token:")
            adding.send_line(telegram.token)
            assert adding.ends() == 0, adding.text()
            self.transcript.add_terminal("nanohost channels create telegram", adding.text())

    def _paired(self) -> None:
        self.transcript.add_text("`nanohost run` now runs in another terminal.")
        shown = self.machine.run("pair", "telegram")
        self.transcript.add_terminal("nanohost pair telegram", shown)
        found = re.search(r"[A-Z2-9]{4}-[A-Z2-9]{4}", shown)
        assert found is not None, shown
        self._write(ADA, f"/start {found[0]}", "owner now")
        self.platforms.model.replies.append(Text("Hello Ada! I am here, too."))
        self._write(ADA, "Hello, it is me.", "I am here, too")
        self._show(ADA)
        self.transcript.add_terminal("nanohost status", self._status("All is well.", "idle"))

    def _a_reminder(self) -> None:
        self.transcript.add_scene("A reminder", "Planned by the agent, kept by the host.")
        self.platforms.model.replies.extend(
            [
                ToolUse(
                    "mcp__nanohost__schedule_task",
                    {"prompt": "Remind Ada to drink water.", "at": f"in {self._pace.reminder_s} seconds"},
                ),
                Text("I will, in ten seconds."),
                Text("Ada, drink some water!"),
            ]
        )
        self._write(ADA, "Remind me in ten seconds to drink water.", "I will")
        self.transcript.add_terminal("nanohost tasks list", self.machine.run("tasks", "list"))
        self.platforms.wait_for_text(ADA, "drink some water!")
        self._show(ADA)

    def _a_second_person(self) -> None:
        self.transcript.add_scene("A second person", "Whom the bot does not know waits, and the owner is asked.")
        self.platforms.write_message(BOB, "Hi! Ada gave me this address.")
        self.platforms.wait_for_text(BOB, "I have asked")
        card = self.platforms.wait_for_text(ADA, "May Bob")
        self._show(ADA)
        self.platforms.model.replies.append(Text("Hello Bob! What can I do for you?"))
        self.platforms.press_button(ADA, card, "Make a new agent")
        self.platforms.wait_for_text(BOB, "Hello Bob!")
        self.platforms.wait_for_text(ADA, "Approved by Ada")
        self._show(ADA)
        self._show(BOB)

    def _a_stranger(self) -> None:
        self.transcript.add_scene("A stranger", "Refused once, and not asked about again.")
        self.platforms.write_message(UNKNOWN_PERSON, "Buy my coins!")
        self.platforms.wait_for_text(UNKNOWN_PERSON, "I have asked")
        card = self.platforms.wait_for_text(ADA, "May Eve")
        self.platforms.press_button(ADA, card, "Refuse")
        self.platforms.wait_for_text(ADA, "Denied by Ada")
        self.platforms.write_message(UNKNOWN_PERSON, "Cheap coins!!")
        self.transcript.add_phone(ADA, [one for one in self._screen(ADA) if "Eve" in one.text])
        self._show(UNKNOWN_PERSON)
        self.transcript.add_status(self._status("Not routed", "the chat was refused on"))

    def _write(self, person: Person, text: str, answer: str) -> None:
        self.platforms.write_message(person, text)
        self.platforms.wait_for_text(person, answer)

    def _show(self, person: Person) -> None:
        self.transcript.add_phone(person, self._screen(person))

    def _screen(self, person: Person) -> list[ScreenMessage]:
        return self.platforms.telegram.screen(person.id, sender=None)

    def _status(self, *words: str) -> str:
        return self.machine.run_until(words, "status")
