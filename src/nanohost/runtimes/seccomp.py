"""The system calls a sandbox must not make, as a classic BPF program for bubblewrap's --seccomp.

Docker brings a filter of its own; bubblewrap brings none. This is a denylist: what changes mounts, namespaces, the
kernel or other processes is refused with EPERM, everything else passes. It never kills: a program that tries a
refused call sees an error and goes on. clone3 is refused with ENOSYS, because its flags lie in memory where a filter
cannot look; the C library then falls back to clone, whose flags it can.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

# linux/bpf_common.h, linux/seccomp.h: the six instructions needed, all on 32-bit words.
_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_JUMP_ANY_BIT = 0x45
_RETURN = 0x06

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits (low word first here).
_NUMBER, _ARCHITECTURE, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24

_NEW_NAMESPACE = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: typing into the terminal of whoever started us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A machine's audit number (linux/audit.h) and its numbers for the calls below."""

    audit: int
    ioctl: int
    clone: int
    denied: tuple[int, ...]
    foreign_from: int | None = None
    """Numbers from here on belong to another calling convention (x32) and are refused whole."""


_CLONE3 = 435

_DENIED_EVERYWHERE = (
    *(428, 429, 430, 431, 432, 433, 442),  # open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
    *(425, 426, 427),  # io_uring_setup io_uring_enter io_uring_register
    *(438, 443),  # pidfd_getfd quotactl_fd
)

_X86_64 = Architecture(
    audit=0xC000003E,
    ioctl=16,
    clone=56,
    foreign_from=0x40000000,
    denied=(
        *(165, 166, 155, 161),  # mount umount2 pivot_root chroot
        *(272, 308, 101, 310, 311, 312),  # unshare setns ptrace process_vm_readv process_vm_writev kcmp
        *(248, 249, 250),  # add_key request_key keyctl
        *(321, 298, 323, 300),  # bpf perf_event_open userfaultfd fanotify_init
        *(246, 320, 175, 313, 176),  # kexec_load kexec_file_load init_module finit_module delete_module
        *(169, 167, 168, 163, 179),  # reboot swapon swapoff acct quotactl
        *(303, 304, 212, 103, 153),  # name_to_handle_at open_by_handle_at lookup_dcookie syslog vhangup
        *(164, 227, 170, 171),  # settimeofday clock_settime sethostname setdomainname
        *(172, 173),  # iopl ioperm
    ),
)

_AARCH64 = Architecture(
    audit=0xC00000B7,
    ioctl=29,
    clone=220,
    denied=(
        *(40, 39, 41, 51),  # mount umount2 pivot_root chroot
        *(97, 268, 117, 270, 271, 272),  # unshare setns ptrace process_vm_readv process_vm_writev kcmp
        *(217, 218, 219),  # add_key request_key keyctl
        *(280, 241, 282, 262),  # bpf perf_event_open userfaultfd fanotify_init
        *(104, 294, 105, 273, 106),  # kexec_load kexec_file_load init_module finit_module delete_module
        *(142, 224, 225, 89, 60),  # reboot swapon swapoff acct quotactl
        *(264, 265, 18, 116, 58),  # name_to_handle_at open_by_handle_at lookup_dcookie syslog vhangup
        *(170, 112, 161, 162),  # settimeofday clock_settime sethostname setdomainname
    ),
)

ARCHITECTURES = {"x86_64": _X86_64, "aarch64": _AARCH64}


def sandbox_filter(machine: str | None = None) -> bytes | None:
    """The program for this machine (or the named one); None where its call numbers are not known."""
    architecture = ARCHITECTURES.get(machine or platform.machine())
    return None if architecture is None else assemble(architecture)


def assemble(architecture: Architecture) -> bytes:
    """The filter as an array of struct sock_filter."""
    deny, absent = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture.audit, yes=1),
        _step(_RETURN, absent),
        _step(_LOAD, _NUMBER),
    ]
    if architecture.foreign_from is not None:
        program += [_step(_JUMP_AT_LEAST, architecture.foreign_from, no=1), _step(_RETURN, absent)]
    program += [_step(_JUMP_EQUAL, _CLONE3, no=1), _step(_RETURN, absent)]
    for number in (*architecture.denied, *_DENIED_EVERYWHERE):
        program += [_step(_JUMP_EQUAL, number, no=1), _step(_RETURN, deny)]
    first, second = _TERMINAL_INPUT
    program += [
        _step(_JUMP_EQUAL, architecture.ioctl, no=5),
        _step(_LOAD, _ARGUMENT_1),
        _step(_JUMP_EQUAL, first, yes=1),
        _step(_JUMP_EQUAL, second, no=1),
        _step(_RETURN, deny),
        _step(_RETURN, _ALLOW),
        _step(_JUMP_EQUAL, architecture.clone, no=3),
        _step(_LOAD, _ARGUMENT_0),
        _step(_JUMP_ANY_BIT, _NEW_NAMESPACE, no=1),
        _step(_RETURN, deny),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; `yes` and `no` are how many following ones a jump skips."""
    return struct.pack("=HBBI", code, yes, no, value)
