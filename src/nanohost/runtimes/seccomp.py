"""The system call policy in the two forms that it is handed over in.

bubblewrap takes a classic BPF program; Docker and Podman take a profile in JSON, which they compile themselves. Neither
form ever kills for a call of the machine's own kind: a program that tries a refused call sees an error and goes on.
"""

from __future__ import annotations

import errno
import hashlib
import json
import platform
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

from nanohost.runtimes.syscall_policy import (
    ABSENT,
    ALLOWED,
    CHECKED,
    MACHINES,
    NEWEST_REFUSED,
    Alternative,
    numbers,
)

# linux/bpf_common.h, linux/seccomp.h: the six instructions needed, all on 32-bit words.
_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_MASK = 0x54
_RETURN = 0x06

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_NO_SUCH_CALL = 0x00050000 | errno.ENOSYS

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits (low word first here).
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A machine's audit number (linux/audit.h) and its name in a profile (libseccomp's)."""

    audit: int
    profile_name: str
    foreign_from: int | None = None
    """Numbers from here on belong to another calling convention (x32), which does not exist here."""


ARCHITECTURES = {
    "x86_64": Architecture(audit=0xC000003E, profile_name="SCMP_ARCH_X86_64", foreign_from=0x40000000),
    "aarch64": Architecture(audit=0xC00000B7, profile_name="SCMP_ARCH_AARCH64"),
}


def sandbox_filter(machine: str | None = None) -> bytes | None:
    """The program for this machine (or the named one); None where its call numbers are not known."""
    wanted = machine or platform.machine()
    return assemble(wanted) if wanted in MACHINES else None


@cache
def engine_profile(machine: str | None = None) -> str | None:
    """The profile for an engine on this machine (or the named one), as JSON; None where sandbox_filter has none.

    No sub-architectures: a program that makes calls of the 32-bit or the x32 kind is ended by SIGSYS.
    """
    architecture = ARCHITECTURES.get(machine or platform.machine())
    if architecture is None:
        return None
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "archMap": [{"architecture": architecture.profile_name, "subArchitectures": []}],
        "syscalls": [
            {"names": list(ALLOWED), "action": "SCMP_ACT_ALLOW"},
            *(
                {"names": [name], "action": "SCMP_ACT_ALLOW", "args": _arguments(alternative)}
                for name, alternatives in CHECKED.items()
                for alternative in alternatives
            ),
            {"names": list(ABSENT), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        ],
    }
    return json.dumps(profile, separators=(",", ":"))


@cache
def filter_digest() -> str:
    """Which filter containers are started with now; empty where they have none. Bubblewrap's and the engines' come from
    one policy: what changes the one changes the other."""
    profile = engine_profile()
    return "" if profile is None else hashlib.sha256(profile.encode()).hexdigest()[:32]


def _arguments(alternative: Alternative) -> list[dict[str, Any]]:
    return [
        {"index": each.argument, "value": each.mask, "valueTwo": each.value, "op": "SCMP_CMP_MASKED_EQ"}
        for each in alternative
    ]


def assemble(machine: str) -> bytes:
    """The filter for one of ARCHITECTURES as an array of struct sock_filter."""
    architecture, known = ARCHITECTURES[machine], numbers(machine)
    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture.audit, yes=1),
        _step(_RETURN, _NO_SUCH_CALL),
        _step(_LOAD, _NUMBER),
    ]
    if architecture.foreign_from is not None:
        program += [_step(_JUMP_AT_LEAST, architecture.foreign_from, no=1), _step(_RETURN, _NO_SUCH_CALL)]
    for name, alternatives in CHECKED.items():
        checks = [step for alternative in alternatives for step in _check(alternative)]
        program += [_step(_JUMP_EQUAL, known[name], no=len(checks) + 1), *checks, _step(_RETURN, _REFUSE)]
    program += _by_number(
        {
            **{known[name]: _ALLOW for name in ALLOWED if name in known},
            **{known[name]: _NO_SUCH_CALL for name in ABSENT},
        }
    )
    return b"".join(program)


def _check(alternative: Alternative) -> list[bytes]:
    """Allow when all conditions hold; otherwise go on with what follows."""
    left = 3 * len(alternative)
    steps = []
    for each in alternative:
        steps += [_step(_LOAD, _FIRST_ARGUMENT + 8 * each.argument), _step(_MASK, each.mask)]
        left -= 3
        steps.append(_step(_JUMP_EQUAL, each.value, no=left + 1))
    return [*steps, _step(_RETURN, _ALLOW)]


def _by_number(answers: dict[int, int]) -> list[bytes]:
    """One comparison for each run of numbers with the same answer, from the highest run down."""
    steps: list[bytes] = []
    for number in range(max(*answers, NEWEST_REFUSED) + 1, 0, -1):
        here = _answer(answers, number)
        if here != _answer(answers, number - 1):
            steps += [_step(_JUMP_AT_LEAST, number, no=1), _step(_RETURN, here)]
    return [*steps, _step(_RETURN, _answer(answers, 0))]


def _answer(answers: dict[int, int], number: int) -> int:
    return answers.get(number, _REFUSE if number <= NEWEST_REFUSED else _NO_SUCH_CALL)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; `yes` and `no` are how many following ones a jump skips."""
    return struct.pack("=HBBI", code, yes, no, value)
