"""Renders a link as a QR code in a terminal.

Never: a code in output for a program, or one that is too wide for the terminal.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Mapping

QUIET_ZONE_MODULES = 2
"""Modules of margin. Four are recommended, but phones read it with two, and a terminal is small."""
LIGHT_ON_DARK, RESET_COLOURS = "\x1b[97;40m", "\x1b[0m"
"""The light modules are the printed ones, so without colours it would be inverted on a light background."""


def qr_for_terminal(link: str) -> str | None:
    """Returns the code if standard output is a terminal that can show it. For commands that are
    `is_rendered_locally`."""
    if not sys.stdout.isatty():
        return None
    columns = shutil.get_terminal_size().columns
    return render_qr(link, columns=columns, encoding=sys.stdout.encoding, has_colours=_supports_colours(os.environ))


def render_qr(link: str, *, columns: int, encoding: str, has_colours: bool) -> str | None:
    """Returns the code with two rows of modules per line; None if it does not fit or the terminal lacks the
    characters."""
    import segno  # slow to load, and seldom needed

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
