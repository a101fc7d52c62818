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

With TRY_WALLS set it also tries what a container must not do, with TRY_WORK what every agent needs.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

MAX_CHILDREN = 400
MAX_HOARD_BYTES = 4 * 1024**3
CLONE_NEWUSER = 0x10000000
CLONE_NEWNS = 0x00020000
ADDR_NO_RANDOMIZE = 0x0040000
TIOCSTI = 0x5412
X32_SYSCALL_BIT = 0x40000000
NETLINK_AUDIT = 9

SYSCALL_NUMBERS = {
    name: {"x86_64": x86_64, "aarch64": aarch64}[platform.machine()]
    for name, x86_64, aarch64 in (
        *(("clone", 56, 220), ("clone3", 435, 435), ("unshare", 272, 97), ("setns", 308, 268), ("mount", 165, 40)),
        *(("open_tree", 428, 428), ("fsopen", 430, 430), ("io_uring_setup", 425, 425), ("ptrace", 101, 117)),
        *(("process_vm_readv", 310, 270), ("process_vm_writev", 311, 271), ("kcmp", 312, 272)),
        *(("add_key", 248, 217), ("request_key", 249, 218), ("keyctl", 250, 219), ("bpf", 321, 280)),
        *(("userfaultfd", 323, 282), ("perf_event_open", 298, 241), ("kexec_load", 246, 104)),
        *(("init_module", 175, 105), ("open_by_handle_at", 304, 265), ("name_to_handle_at", 303, 264)),
        *(("pidfd_getfd", 438, 438), ("personality", 135, 92), ("mbind", 237, 235), ("fanotify_init", 300, 262)),
        ("fcntl", 72, 25),
    )
    if platform.machine() in ("x86_64", "aarch64")
}
"""System calls that a container must not make, and their numbers."""

SYSCALL_ARGUMENTS: dict[str, tuple[int | bytes, ...]] = {
    "unshare": (CLONE_NEWUSER,),
    "clone": (CLONE_NEWNS | signal.SIGCHLD,),
    "io_uring_setup": (4, bytes(120)),
    "add_key": (b"user", b"nanohost", b"x", 1, -2),
    "userfaultfd": (1,),
    "personality": (ADDR_NO_RANDOMIZE,),
    "fcntl": (-1, fcntl.F_SETLEASE),
    "setns": (-1, 0),
    "pidfd_getfd": (-1, 0, 0),
}
"""What lets a call succeed where it is allowed, or fail in another way than a filter; all zero for the others."""


def main() -> None:
    mode = os.environ.get("STAND_IN", "wait")
    workspace = Path(os.environ.get("NANOHOST_WORKSPACE", "/workspace"))
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else exit_cleanly)
    hold_alive_lock(workspace / "out" / "alive")
    sys.stdout.write(f"stand-in speaking: {mode}\n")
    sys.stdout.flush()
    report = {"children": fork_many() if mode == "crowd" else 0, **collect_report(workspace)}
    if mode == "parent":
        fork_child()
    with (workspace / "out" / "report").open("w") as pipe:
        pipe.write(json.dumps(report) + "\n")
    if mode == "exit":
        sys.exit(3)
    if mode == "obey":
        with (workspace / "out" / "orders").open("rb") as orders:
            orders.read(1)
        sys.exit(7)
    if mode == "hoard":
        exhaust_memory()
    while True:
        signal.pause()


def exit_cleanly(*_: object) -> NoReturn:
    sys.exit(0)


def collect_report(workspace: Path) -> dict[str, Any]:
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
        "interfaces": [name for _, name in socket.if_nameindex() if is_up(name)],
        "attempts": {name: try_action(action) for name, action in all_actions(workspace).items()},
    }


def all_actions(workspace: Path) -> dict[str, Callable[[], object]]:
    """What is tried. Against walls only when asked: without any the attempts would do what they say."""
    wanted = allowed_actions(workspace)
    if "TRY_WALLS" in os.environ:
        wanted |= forbidden_actions(workspace) | syscall_actions()
    if "TRY_WORK" in os.environ:
        wanted |= agent_actions()
    return wanted


def allowed_actions(workspace: Path) -> dict[str, Callable[[], object]]:
    outbound = workspace / "out" / "outbound.db"
    return {
        "write out/": lambda: (workspace / "out" / "new").touch(),
        "write state/": lambda: (workspace / "state" / "new").touch(),
        "write agent/": lambda: (workspace / "agent" / "new").touch(),
        "write outbound": lambda: os.close(os.open(outbound, os.O_RDWR)),
        "write temporary": tempfile.TemporaryFile,
    }


def is_up(interface: str) -> bool:
    """Other than the loopback, and switched on: a new namespace may list tunnels that lead nowhere."""
    flags = Path("/sys/class/net", interface, "flags")
    return interface != "lo" and (not flags.exists() or bool(int(flags.read_text(), 16) & 1))


def forbidden_actions(workspace: Path) -> dict[str, Callable[[], object]]:
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


def try_action(action: Callable[[], object]) -> str:
    """`done`, or why not."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except KeyError:
        return "not asked"
    except subprocess.CalledProcessError as error:
        return f"failed: {error.stderr!r}"
    return "done"


def replace_by_link(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to("/etc/hostname")
    try:
        link.replace(path)
    finally:
        link.unlink(missing_ok=True)


def new_user_namespace() -> None:
    run_in_child(partial(make_syscall, "unshare"))


def syscall_actions() -> dict[str, Callable[[], object]]:
    """Each in a child, so that one that is allowed does not change what the next attempts mean."""
    tried: dict[str, Callable[[], object]] = {name: partial(make_syscall, name) for name in SYSCALL_NUMBERS}
    tried |= {
        "AF_VSOCK": partial(socket.socket, 40, socket.SOCK_STREAM),
        "AF_ALG": partial(socket.socket, 38, socket.SOCK_SEQPACKET),
        "AF_PACKET": partial(socket.socket, 17, socket.SOCK_DGRAM),
        "AF_BLUETOOTH": partial(socket.socket, 31, socket.SOCK_RAW),
        "NETLINK_AUDIT": partial(socket.socket, socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_AUDIT),
        "SCTP": partial(socket.socket, socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
        "TIOCSTI": lambda: fcntl.ioctl(os.pipe()[0], TIOCSTI, b"x"),
    }
    if platform.machine() == "x86_64":
        tried |= {
            "32-bit call": make_32_bit_syscall,
            "x32 call": lambda: check_result(libc().syscall(X32_SYSCALL_BIT | 39)),
        }
    return {f"call {name}": partial(run_in_child, action) for name, action in tried.items()}


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def check_result(result: int) -> None:
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_syscall(name: str) -> None:
    """Make this system call, whatever it does."""
    arguments = [*SYSCALL_ARGUMENTS.get(name, ()), *[0] * 6][:6]
    wide = [each if isinstance(each, bytes) else ctypes.c_long(each) for each in arguments]
    check_result(libc().syscall(ctypes.c_long(SYSCALL_NUMBERS[name]), *wide))


def make_32_bit_syscall() -> None:
    """getpid as a program of 32 bits asks for it: mov eax, 20; int 0x80; ret."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def run_in_child(action: Callable[[], object]) -> None:
    """Do it in a child of ours. Raises OSError with its error, or with the name of the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise OSError(signal.Signals(-code).name)
    if code:
        raise OSError(code, os.strerror(code))


def agent_actions() -> dict[str, Callable[[], object]]:
    """What every agent needs, and must not be refused."""
    return {
        "do threads": use_threads,
        "do programs": lambda: subprocess.run(["/bin/sh", "-c", "ls / | cat"], stdout=subprocess.DEVNULL, check=True),
        "do pools": use_process_pool,
        "do event loops": lambda: asyncio.run(echo_over_sockets()),
        "do databases": use_sqlite,
        "do interfaces": socket.if_nameindex,
        "do versions": use_git,
    }


def use_threads() -> None:
    threads = [threading.Thread(target=os.getpid) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def use_process_pool() -> None:
    with ProcessPoolExecutor(2) as pool:
        if list(pool.map(abs, (-1, -2))) != [1, 2]:
            raise OSError("wrong answer")


async def echo_over_sockets() -> None:
    """Over TCP and over a local socket."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    local = await asyncio.start_unix_server(echo, Path(tempfile.mkdtemp(), "socket"))
    async with server, local:
        pairs = [
            await asyncio.open_connection(*server.sockets[0].getsockname()),
            await asyncio.open_unix_connection(local.sockets[0].getsockname()),
        ]
        for reader, writer in pairs:
            writer.write(b"hello\n")
            if await reader.readline() != b"hello\n":
                raise OSError("wrong answer")
            writer.close()


def use_sqlite() -> None:
    for journal in ("delete", "wal"):
        database = sqlite3.connect(Path(tempfile.mkdtemp(), "database"))
        database.execute(f"PRAGMA journal_mode = {journal}")
        database.execute("CREATE TABLE things (id INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO things DEFAULT VALUES")
        database.commit()
        database.close()


def use_git() -> None:
    if shutil.which("git") is None:
        raise OSError("not there")
    folder = tempfile.mkdtemp()
    who = ("-c", "user.name=agent", "-c", "user.email=agent@localhost")
    for words in (
        ("init", "-q"),
        (*who, "commit", "-q", "--allow-empty", "-m", "first"),
        ("gc", "-q"),
        ("status", "-s"),
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)  # noqa: S603, S607


def hold_alive_lock(path: Path) -> None:
    """For life: the descriptor is never closed, and children inherit it."""
    fcntl.flock(os.open(path, os.O_CREAT | os.O_RDWR, 0o666), fcntl.LOCK_EX)


def fork_child() -> None:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()


def fork_many() -> int:
    for count in range(MAX_CHILDREN):
        try:
            child = os.fork()
        except OSError:
            return count
        if child == 0:
            while True:
                signal.pause()
    return MAX_CHILDREN


def exhaust_memory() -> None:
    block = 16 * 1024**2
    kept: list[bytes] = []
    while len(kept) * block < MAX_HOARD_BYTES:
        kept.append(b"\1" * block)


if __name__ == "__main__":
    main()
