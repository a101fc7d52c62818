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
    ALLOWED,
    CONDITIONAL,
    MACHINES,
    MAX_DENIED_NUMBER,
    UNIMPLEMENTED,
    Alternative,
    syscall_numbers,
)

# linux/bpf_common.h, linux/seccomp.h: the six instructions needed, all on 32-bit words.
_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_MASK = 0x54
_RETURN = 0x06

_ALLOW = 0x7FFF0000
_DENY = 0x00050000 | errno.EPERM
_NO_SUCH_CALL = 0x00050000 | errno.ENOSYS

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits (low word first here).
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A machine's audit number (linux/audit.h) and its name in a profile (libseccomp's)."""

    audit_number: int
    profile_name: str
    foreign_from: int | None = None
    """Numbers from here on belong to another calling convention (x32), which does not exist here."""


ARCHITECTURES = {
    "x86_64": Architecture(audit_number=0xC000003E, profile_name="SCMP_ARCH_X86_64", foreign_from=0x40000000),
    "aarch64": Architecture(audit_number=0xC00000B7, profile_name="SCMP_ARCH_AARCH64"),
}


def bpf_filter(machine: str | None = None) -> bytes | None:
    """The program for this machine (or the named one); None where its call numbers are not known."""
    wanted = machine or platform.machine()
    return assemble_bpf(wanted) if wanted in MACHINES else None


@cache
def seccomp_profile(machine: str | None = None) -> str | None:
    """The profile for an engine on this machine (or the named one), as JSON; None where bpf_filter has none.

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
                {"names": [name], "action": "SCMP_ACT_ALLOW", "args": _profile_arguments(alternative)}
                for name, alternatives in CONDITIONAL.items()
                for alternative in alternatives
            ),
            {"names": list(UNIMPLEMENTED), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        ],
    }
    return json.dumps(profile, separators=(",", ":"))


@cache
def filter_digest() -> str:
    """Which filter containers are started with now; empty where they have none. Bubblewrap's and the engines' come from
    one policy: what changes the one changes the other."""
    profile = seccomp_profile()
    return "" if profile is None else hashlib.sha256(profile.encode()).hexdigest()[:32]


def _profile_arguments(alternative: Alternative) -> list[dict[str, Any]]:
    return [
        {"index": each.argument, "value": each.mask, "valueTwo": each.value, "op": "SCMP_CMP_MASKED_EQ"}
        for each in alternative
    ]


def assemble_bpf(machine: str) -> bytes:
    """The filter for one of ARCHITECTURES as an array of struct sock_filter."""
    architecture, known = ARCHITECTURES[machine], syscall_numbers(machine)
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, architecture.audit_number, jump_true=1),
        _instruction(_RETURN, _NO_SUCH_CALL),
        _instruction(_LOAD, _NUMBER),
    ]
    if architecture.foreign_from is not None:
        program += [
            _instruction(_JUMP_AT_LEAST, architecture.foreign_from, jump_false=1),
            _instruction(_RETURN, _NO_SUCH_CALL),
        ]
    for name, alternatives in CONDITIONAL.items():
        checks = [step for alternative in alternatives for step in _condition_instructions(alternative)]
        program += [
            _instruction(_JUMP_EQUAL, known[name], jump_false=len(checks) + 1),
            *checks,
            _instruction(_RETURN, _DENY),
        ]
    program += _number_instructions(
        {
            **{known[name]: _ALLOW for name in ALLOWED if name in known},
            **{known[name]: _NO_SUCH_CALL for name in UNIMPLEMENTED},
        }
    )
    return b"".join(program)


def _condition_instructions(alternative: Alternative) -> list[bytes]:
    """Allow when all conditions hold; otherwise go on with what follows."""
    left = 3 * len(alternative)
    steps = []
    for each in alternative:
        steps += [_instruction(_LOAD, _FIRST_ARGUMENT + 8 * each.argument), _instruction(_MASK, each.mask)]
        left -= 3
        steps.append(_instruction(_JUMP_EQUAL, each.value, jump_false=left + 1))
    return [*steps, _instruction(_RETURN, _ALLOW)]


def _number_instructions(actions: dict[int, int]) -> list[bytes]:
    """One comparison for each run of numbers with the same answer, from the highest run down."""
    steps: list[bytes] = []
    for number in range(max(*actions, MAX_DENIED_NUMBER) + 1, 0, -1):
        here = _action_for(actions, number)
        if here != _action_for(actions, number - 1):
            steps += [_instruction(_JUMP_AT_LEAST, number, jump_false=1), _instruction(_RETURN, here)]
    return [*steps, _instruction(_RETURN, _action_for(actions, 0))]


def _action_for(actions: dict[int, int], number: int) -> int:
    return actions.get(number, _DENY if number <= MAX_DENIED_NUMBER else _NO_SUCH_CALL)


def _instruction(code: int, value: int, *, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """One instruction; `jump_true` and `jump_false` are how many following ones a jump skips."""
    return struct.pack("=HBBI", code, jump_true, jump_false, value)
