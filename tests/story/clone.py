"""The beginning: a clone, and the output while `make chat` installs it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.cli.terminal import run_in_terminal
from tests.story.machine import COLUMNS, RUNTIME
from tests.story.placeholders import Placeholders
from tests.story.transcript import Transcript
from tests.support.cases import ROOT

INSTALL_TIMEOUT_S = 600.0
"""Packages are downloaded."""
PROGRESS_PATTERN = re.compile(r"Installing \d+ of (\d+): \S+")


def play_clone(folder: Path) -> str:
    """The transcript, as Markdown, until the first answer. Uncommitted files are not in the clone."""
    transcript = Transcript(Placeholders({str(folder): "/home/ada"}))
    transcript.add_scene("A clone", "The second command installs what is needed, and says how far it is.")
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "nanohost"], check=True)
    transcript.add_terminal("git clone ADDRESS nanohost && cd nanohost")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NANOHOST_", "ANTHROPIC_", "MAKE"))}
    environ = kept | {"NANOHOST_RUNTIME": RUNTIME, "TZ": "UTC", "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    with run_in_terminal(["make", "chat"], environ, columns=COLUMNS, folder=folder / "nanohost") as chat:
        found = PROGRESS_PATTERN.search(
            chat.wait_until(lambda text: PROGRESS_PATTERN.search(text) is not None, timeout_s=INSTALL_TIMEOUT_S)
        )
        assert found is not None
        transcript.add_terminal("make chat", f"Installing 12 of {found[1]}: httpx")
        chat.wait_until(lambda text: "time zone [UTC]:" in text, timeout_s=INSTALL_TIMEOUT_S)
        chat.send_line("")
        chat.wait_for_text("you>")
        chat.send_line("hello")
        chat.wait_for_text("I am the demo")
        chat.send_line("/quit")
        assert chat.ends() == 0, chat.text()
    return transcript.text()
