"""An operator's night: problems, what status shows, the commands typed, and that all is well again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nanohost.testing.simulator import ADA, Fault, ScreenMessage
from tests.story.machine import Machine
from tests.story.placeholders import Placeholders
from tests.story.platforms import KEY, StubPlatforms
from tests.story.transcript import Transcript
from tests.support.messages_api import Text, ToolUse
from tests.support.small_disk import mount_small_disk

DISK_MB, TOO_MUCH_MB = 1100, 1060
"""A disk with more space than the gigabyte below which status warns, and a file that leaves less than the host's
reserve. Not less than that: the cause is held as soon as the hold can be written, which on a full disk is whenever
there is space."""
NEW_TOKEN = "123456789:simulated_token_after_the_first_one"
ALL_WELL_TEXT, WAITING_TITLE, UNKNOWN_COST_TEXT = "All is well.", "Waiting to be sent", "not known"
AT_ONCE = ("Write down", "The agent main is on hold", "I am on hold", "The disk is nearly full", "There are too many")
"""The messages about a full disk, in their usual order."""


class NightStory:
    """`folder` is somebody's home directory. Needs the right to mount, for a disk that can be filled."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder)
        self.platforms = StubPlatforms()
        self.transcript = Transcript(Placeholders({str(folder): "/home/ada"}))

    def play(self) -> str:
        """The transcript, as Markdown. Everything is stopped afterwards."""
        with mount_small_disk(self.machine.home, DISK_MB), self.platforms.running():
            self.machine.environ = {
                "ANTHROPIC_BASE_URL": self.platforms.model.base_url,
                "ANTHROPIC_API_KEY": KEY,
                "NANOHOST_TIMEZONE": "Europe/Berlin",
            }
            try:
                self._evening()
                with self.machine.run_host():
                    self._a_dead_token()
                with self.machine.run_host():
                    self._a_new_token()
                    self._a_full_disk()
                    self._a_crash_loop()
                    self._a_platform_that_is_down()
            finally:
                self.machine.run("sessions", "stop", "all")
        return self.transcript.text()

    def _evening(self) -> None:
        address = f"base_url={self.platforms.telegram.settings()['base_url']}"
        with self.machine.terminal("channels", "create", "telegram", "--set", address) as adding:
            adding.wait_for_text("token:")
            adding.send_line(self.platforms.telegram.token)
            assert adding.ends() == 0, adding.text()

    def _a_dead_token(self) -> None:
        code = json.loads(self.machine.run("pair", "telegram", "--json"))["code"]
        self._writes(code, "owner now")
        self.platforms.model.replies.append(Text("Good night!"))
        self._writes("Good night.", "Good night!")
        self.transcript.mark_seen(self._screen())
        self.platforms.revoke(NEW_TOKEN)
        self.transcript.add_scene("A dead token", "Nobody is answered on Telegram any more.")
        self.transcript.add_terminal("nanohost status", self._status("does not accept", "idle"))
        self.transcript.add_terminal(
            "nanohost channels check telegram", self.machine.run("channels", "check", "telegram")
        )
        with self.machine.terminal("channels", "update", "telegram") as updating:
            updating.wait_for_text("token")
            updating.send_line(NEW_TOKEN)
            assert updating.ends() == 0, updating.text()
            self.transcript.add_terminal("nanohost channels update telegram", updating.text())

    def _a_new_token(self) -> None:
        self.transcript.add_text("`nanohost run` is ended with Ctrl-C and started again.")
        self.transcript.add_status(self._status(ALL_WELL_TEXT))

    def _a_full_disk(self) -> None:
        self.transcript.add_scene(
            "A full disk", "An agent writes until only the part is left that the host keeps for itself."
        )
        fills = {"command": f"head -c {TOO_MUCH_MB}M /dev/zero > primes.txt; sleep 60", "description": "All primes"}
        self.platforms.model.replies.append(ToolUse("Bash", fills))
        self.platforms.write_message(ADA, "Write down all primes that there are.")
        self.transcript.add_status(self._status("On hold", "nearly full", but=[WAITING_TITLE, UNKNOWN_COST_TEXT]))
        self.transcript.add_terminal("rm groups/main/primes.txt")
        (self.machine.home / "groups" / "main" / "primes.txt").unlink()
        self.transcript.add_status(self._status("On hold", but=["nearly full", WAITING_TITLE]))
        self.platforms.model.replies.append(Text("There are too many of them: I gave up."))
        self.transcript.add_terminal("nanohost agents release main", self.machine.run("agents", "release", "main"))
        self.platforms.wait_for_text(ADA, "I gave up")
        self.transcript.add_status(self._status(ALL_WELL_TEXT))
        told = {begin: one for begin in AT_ONCE for one in self._screen() if one.text.startswith(begin)}
        self.transcript.add_phone(ADA, list(told.values()))

    def _a_crash_loop(self) -> None:
        [session] = json.loads(self.machine.run("sessions", "list", "--json"))
        self.machine.run("sessions", "stop", session["id"])
        [outbox] = self.machine.home.glob("sessions/*/*/out/outbound.db")
        outbox.chmod(0o400)
        words = "A backup was put back with files that nobody may write. Each container ends as soon as it begins."
        self.transcript.add_scene("A crash loop", words)
        self.platforms.write_message(ADA, "Good morning?")
        self.platforms.wait_for_text(ADA, "broke down")
        self.transcript.add_status(self._status("containers fail"))
        self.transcript.add_terminal(f"nanohost logs {session['id']}", self._log(session["id"]))
        self.transcript.add_terminal(f"chmod u+w sessions/main/{session['id']}/out/outbound.db")
        self.platforms.model.replies.append(Text("Good morning!"))
        outbox.chmod(0o600)
        self.platforms.wait_for_text(ADA, "Good morning!")
        self.transcript.add_status(self._status(ALL_WELL_TEXT))
        self.transcript.add_phone(ADA, self._screen())

    def _log(self, session: str) -> str:
        """Its last line: their number depends on how often it was tried."""
        head, *lines = self.machine.run("logs", session).splitlines()
        return "\n".join([head, lines[-1]])

    def _a_platform_that_is_down(self) -> None:
        self.transcript.add_scene("A 503", "Telegram answers every message with an error of its own for a while.")
        self.platforms.telegram.faults.persistent = Fault.UNAVAILABLE
        self.platforms.model.replies.append(Text("I am here."))
        self.platforms.write_message(ADA, "Are you there?")
        self.transcript.add_status(self._status("failing"))
        listed = self.machine.run_until(["failing"], "messages", "list")
        self.transcript.add_terminal("nanohost messages list", "\n".join(listed.splitlines()[:2]))
        self.transcript.add_text("Nothing has to be done: it goes out as soon as Telegram takes it.")
        self.platforms.telegram.faults.persistent = None
        self.platforms.wait_for_text(ADA, "I am here.")
        self.transcript.add_status(self._status(ALL_WELL_TEXT))
        self.transcript.add_phone(ADA, self._screen())

    def _writes(self, text: str, answer: str) -> None:
        self.platforms.write_message(ADA, text)
        self.platforms.wait_for_text(ADA, answer)

    def _screen(self) -> list[ScreenMessage]:
        return self.platforms.telegram.screen(ADA.id, sender=None)

    def _status(self, *words: str, but: Sequence[str] = ()) -> str:
        return self.machine.run_until(words, "status", excluded=but)
