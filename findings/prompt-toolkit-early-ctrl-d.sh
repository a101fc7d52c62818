#!/usr/bin/env bash
# prompt_toolkit 3.0.53 on a Linux terminal: a Ctrl-D that is typed before the prompt is there does not end it. The
# terminal takes the key as the end of a line that nobody has read; when prompt_toolkit then reads key by key, what is left
# of it is a NUL, which is Ctrl-@ and does nothing. What else was typed ahead arrives as it was.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check prompt_toolkit==3.0.53 wcwidth==0.2.13

"$folder/venv/bin/python" - <<'END_OF_PROGRAM'
import os
import pty
import select
import sys
import time
from importlib.metadata import version

PROGRAM = """
print("begun", flush=True)
import time
time.sleep(1)
from prompt_toolkit import PromptSession
try:
    print("got", repr(PromptSession().prompt("you> ")))
except EOFError:
    print("ended")
"""


def says(when: bytes, keys: bytes) -> str:
    """What the program prints when these keys come as soon as `when` is shown, and Enter two seconds later."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM])
    shown, typed_at, entered = b"", None, False
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the program has ended
                break
        if typed_at is None and when in shown:
            os.write(terminal, keys)
            typed_at = time.monotonic()
        if typed_at is not None and not entered and b"you>" in shown and time.monotonic() - typed_at > 2:
            os.write(terminal, b"\r")
            entered = True
    os.waitpid(child, 0)
    return "ended" if b"ended" in shown else "got ''" if b"got ''" in shown else "got 'ab'" if b"got 'ab'" in shown else "?"


seen = {
    "Ctrl-D at the prompt": says(b"you>", b"\x04"),
    "Ctrl-D before it": says(b"begun", b"\x04"),
    "letters before it": says(b"begun", b"ab"),
}
print(f"prompt_toolkit {version('prompt_toolkit')}, Python {sys.version.split()[0]}, {sys.platform}: {seen}")
sys.exit(list(seen.values()) != ["ended", "got ''", "got 'ab'"])
END_OF_PROGRAM
