"""A pairing link as a QR code: on a terminal that can show it, and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
import segno

from nanohost.commands.qr import LIGHT_ON_DARK, QUIET_ZONE_MODULES, RESET_COLOURS, render_qr
from nanohost.commands.registry import find_command
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

LINK = "https://t.me/nanohost_bot?start=Q2X7-4K9P"
RESULT = {
    "channel": "telegram:default",
    "state": "connected",
    "code": "Q2X7-4K9P",
    "expires_at": "2026-01-01T00:15:00+00:00",
    "link": LINK,
    "not_heard": [],
}
SHOW = (
    "import json, sys; from nanohost.commands.registry import find_command; "
    "print(find_command('pair').render(json.loads(sys.argv[1])))"
)
MODULES = {" ": (1, 1), "▀": (0, 1), "▄": (1, 0), "█": (0, 0)}


def modules(lines: list[str]) -> list[list[int]]:
    """The modules as a camera sees them: 1 is dark. The margin is removed."""
    rows = [[MODULES[sign][half] for sign in line] for line in lines for half in (0, 1)]
    return [
        row[QUIET_ZONE_MODULES:-QUIET_ZONE_MODULES]
        for row in rows[QUIET_ZONE_MODULES : len(rows[0]) - QUIET_ZONE_MODULES]
    ]


def on_a_terminal(environ: Mapping[str, str]) -> str:
    """The command's answer on a terminal of 80 columns."""
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with os.fdopen(theirs, "wb") as terminal:
            given = {"PATH": os.environ["PATH"], "COLUMNS": "80", "PYTHONUTF8": "1", **environ}
            subprocess.run(
                [sys.executable, "-c", SHOW, json.dumps(RESULT)],
                stdout=terminal,
                env=given,
                check=True,
                timeout=scaled_timeout(HANG_TIMEOUT_S),
            )
        shown = b""
        try:
            while part := screen.read(4096):
                shown += part
        except OSError:  # all of it was read
            pass
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("environ", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_pairing_link_is_shown_with_a_qr_code_that_decodes_to_it(environ: Mapping[str, str]) -> None:
    shown = on_a_terminal(environ)
    before, _, after = shown.partition("or scan it with the phone:\n\n")
    assert before.endswith(f"or open {LINK}\n\n")
    lines = after.partition("\n\n")[0].splitlines()
    assert modules(lines) == [list(row) for row in segno.make_qr(LINK, error="l").matrix]
    assert "Whoever does is an owner" in after


def test_a_qr_code_is_light_on_dark_whatever_the_colours_of_the_terminal() -> None:
    after = on_a_terminal({"TERM": "xterm"}).partition("or scan it with the phone:\n\n")[2]
    lines = after.partition("\n\n")[0].splitlines()
    assert lines
    assert all(line.startswith(LIGHT_ON_DARK) and line.endswith(RESET_COLOURS) for line in lines)


def test_output_for_a_program_has_the_link_and_no_qr_code() -> None:
    shown = find_command("pair").render(RESULT)
    assert f"or open {LINK}" in shown
    assert "█" not in shown


@pytest.mark.parametrize(
    ("link", "columns", "encoding"),
    [(LINK, 20, "utf-8"), (LINK, 80, "ascii"), (LINK, 80, "no such"), ("x" * 5000, 400, "utf-8")],
)
def test_a_qr_code_that_a_terminal_cannot_show_is_left_out(link: str, columns: int, encoding: str) -> None:
    assert render_qr(link, columns=columns, encoding=encoding, has_colours=False) is None
