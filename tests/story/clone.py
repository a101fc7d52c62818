"""The beginning: a clone, and what is seen while `make chat` installs it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.cli.terminal import in_terminal
from tests.story.machine import COLUMNS, RUNTIME
from tests.story.placeholders import Placeholders
from tests.story.transcript import Transcript
from tests.support.cases import ROOT

INSTALL_LIMIT_S = 600.0
"""Packages come over a network."""
SOME = re.compile(r"Installing \d+ of (\d+): \S+")


def clone(folder: Path) -> str:
    """What is seen, as Markdown, until the first answer comes. What is not committed here is not in the clone."""
    transcript = Transcript(Placeholders({str(folder): "/home/ada"}))
    transcript.scene("A clone", "The second command installs what is needed, and says how far it is.")
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "nanohost"], check=True)
    transcript.terminal("git clone ADDRESS nanohost && cd nanohost")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NANOHOST_", "ANTHROPIC_", "MAKE"))}
    environ = kept | {"NANOHOST_RUNTIME": RUNTIME, "TZ": "UTC", "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    with in_terminal(["make", "chat"], environ, columns=COLUMNS, folder=folder / "nanohost") as chat:
        found = SOME.search(chat.until(lambda text: SOME.search(text) is not None, limit_s=INSTALL_LIMIT_S))
        assert found is not None
        transcript.terminal("make chat", f"Installing 12 of {found[1]}: httpx")
        chat.until(lambda text: "time zone [UTC]:" in text, limit_s=INSTALL_LIMIT_S)
        chat.says("")
        chat.shows("you>")
        chat.says("hello")
        chat.shows("I am the demo")
        chat.says("/quit")
        assert chat.ends() == 0, chat.text()
    return transcript.text()
