"""A program that stands in for the runner in the runtime suite. Standard library only: it runs inside containers.

It writes one line of JSON to the pipe out/report, saying what it found and what it could do, then behaves as the
variable STAND_IN says:

    wait        sleep until SIGTERM, then exit with 0
    stubborn    ignore SIGTERM
    exit        exit with 3
    obey        exit with 7 as soon as a byte comes through the pipe out/orders
    parent      like wait, but with a child that ignores SIGTERM
    crowd       start processes until that fails, then wait
    hoard       use more and more memory

Whatever it does, out/alive is locked as long as it or a child of it lives.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

CROWD = 400
HOARD_BYTES = 4 * 1024**3
CLONE_NEWUSER = 0x10000000


def main() -> None:
    mode = os.environ.get("STAND_IN", "wait")
    workspace = Path(os.environ.get("NANOHOST_WORKSPACE", "/workspace"))
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else leave)
    lock(workspace / "out" / "alive")
    sys.stdout.write(f"stand-in speaking: {mode}\n")
    sys.stdout.flush()
    report = {"children": crowd() if mode == "crowd" else 0, **findings(workspace)}
    if mode == "parent":
        have_a_child()
    with (workspace / "out" / "report").open("w") as pipe:
        pipe.write(json.dumps(report) + "\n")
    if mode == "exit":
        sys.exit(3)
    if mode == "obey":
        with (workspace / "out" / "orders").open("rb") as orders:
            orders.read(1)
        sys.exit(7)
    if mode == "hoard":
        hoard()
    while True:
        signal.pause()


def leave(*_: object) -> NoReturn:
    sys.exit(0)


def findings(workspace: Path) -> dict[str, Any]:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return {
        "environment": dict(os.environ),
        "arguments": sys.argv[1:],
        "files": sorted(each.name for each in Path.cwd().iterdir()),
        "uid": os.getuid(),
        "capabilities": [status["CapEff"], status["CapPrm"], status["CapBnd"]],
        "no_new_privileges": status["NoNewPrivs"],
        "seccomp": status["Seccomp"],
        "processes": [each.name for each in Path("/proc").iterdir() if each.name.isdigit()],
        "interfaces": [name for _, name in socket.if_nameindex() if up(name)],
        "attempts": {name: attempt(action) for name, action in actions(workspace).items()},
    }


def actions(workspace: Path) -> dict[str, Callable[[], object]]:
    """What is tried. Against walls only when asked: without any the attempts would do what they say."""
    if "TRY_WALLS" in os.environ:
        return {**allowed(workspace), **forbidden(workspace)}
    return allowed(workspace)


def allowed(workspace: Path) -> dict[str, Callable[[], object]]:
    outbound = workspace / "out" / "outbound.db"
    return {
        "write out/": lambda: (workspace / "out" / "new").touch(),
        "write state/": lambda: (workspace / "state" / "new").touch(),
        "write agent/": lambda: (workspace / "agent" / "new").touch(),
        "write outbound": lambda: os.close(os.open(outbound, os.O_RDWR)),
        "write temporary": tempfile.TemporaryFile,
    }


def up(interface: str) -> bool:
    """Other than the loopback, and switched on: a new namespace may list tunnels that lead nowhere."""
    flags = Path("/sys/class/net", interface, "flags")
    return interface != "lo" and (not flags.exists() or bool(int(flags.read_text(), 16) & 1))


def forbidden(workspace: Path) -> dict[str, Callable[[], object]]:
    outbound = workspace / "out" / "outbound.db"
    return {
        "write in/": lambda: (workspace / "in" / "new").touch(),
        "write run/": lambda: (workspace / "run" / "new").touch(),
        "write workspace": lambda: (workspace / "new").touch(),
        "write /": lambda: Path("/new").touch(),
        "write /usr": lambda: Path("/usr/new").touch(),
        "write /etc": lambda: Path("/etc/new").touch(),
        "write kernel": lambda: os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)),
        "remove outbound": outbound.unlink,
        "replace outbound": lambda: replace_by_link(outbound),
        "read shadow": lambda: os.close(os.open("/etc/shadow", os.O_RDONLY)),
        "see elsewhere": lambda: Path(os.environ["ELSEWHERE"]).stat(),
        "see the engine": lambda: Path("/var/run/docker.sock").stat(),
        "connect": lambda: socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=1).close(),
        "new user namespace": new_user_namespace,
    }


def attempt(action: Callable[[], object]) -> str:
    """`done`, or why not."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except KeyError:
        return "not asked"
    return "done"


def replace_by_link(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to("/etc/hostname")
    try:
        link.replace(path)
    finally:
        link.unlink(missing_ok=True)


def new_user_namespace() -> None:
    # In a child, so that a success does not change what the next attempts mean.
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        os._exit(0 if libc.unshare(CLONE_NEWUSER) == 0 else ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def lock(path: Path) -> None:
    """For life: the descriptor is never closed, and children inherit it."""
    fcntl.flock(os.open(path, os.O_CREAT | os.O_RDWR, 0o666), fcntl.LOCK_EX)


def have_a_child() -> None:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()


def crowd() -> int:
    for count in range(CROWD):
        try:
            child = os.fork()
        except OSError:
            return count
        if child == 0:
            while True:
                signal.pause()
    return CROWD


def hoard() -> None:
    block = 16 * 1024**2
    kept: list[bytes] = []
    while len(kept) * block < HOARD_BYTES:
        kept.append(b"\1" * block)


if __name__ == "__main__":
    main()
