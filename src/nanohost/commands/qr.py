"""Renders a link as a QR code in a terminal.

Never: anything where the text is read by a program, or a code that the terminal is too narrow for.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Mapping

QUIET_ZONE_MODULES = 2
"""Modules of margin. Four are recommended, and phones read it with two; a screen is small."""
LIGHT_ON_DARK, RESET_COLOURS = "\x1b[97;40m", "\x1b[0m"
"""Its light modules are the written ones, so it would be inverted where the background is light."""


def qr_for_terminal(link: str) -> str | None:
    """The code, if standard output is a terminal that can show it: for a command that is `rendered_here`."""
    if not sys.stdout.isatty():
        return None
    columns = shutil.get_terminal_size().columns
    return render_qr(link, columns=columns, encoding=sys.stdout.encoding, has_colours=_supports_colours(os.environ))


def render_qr(link: str, *, columns: int, encoding: str, has_colours: bool) -> str | None:
    """Two rows of modules a line. None: it does not fit, or the terminal has no such characters."""
    import segno  # a moment's work, for this alone

    picture = io.StringIO()
    try:
        segno.make_qr(link, error="l").terminal(out=picture, border=QUIET_ZONE_MODULES, compact=True)
        picture.getvalue().encode(encoding)
    except (segno.DataOverflowError, UnicodeEncodeError, LookupError):
        return None
    lines = picture.getvalue().splitlines()
    if any(len(line) > columns for line in lines):
        return None
    return "\n".join(f"{LIGHT_ON_DARK}{line}{RESET_COLOURS}" if has_colours else line for line in lines)


def _supports_colours(environ: Mapping[str, str]) -> bool:
    return not environ.get("NO_COLOR") and environ.get("TERM") not in (None, "", "dumb")
