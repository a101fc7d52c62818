"""Defines the system call policy, and builds it in the two forms that runtimes take.

bubblewrap takes a classic BPF program; Docker and Podman take a profile in JSON, which they compile. Neither form kills
a program for a native call: a refused call returns an error and the program continues.
"""

from __future__ import annotations

import errno
import hashlib
import json
import platform
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

# linux/bpf_common.h, linux/seccomp.h: the instructions in use, all on 32-bit words.
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
    """A machine's audit number (linux/audit.h) and its name in a profile (from libseccomp)."""

    audit_number: int
    profile_name: str
    foreign_from: int | None = None
    """Numbers from here on belong to another calling convention (x32), which is answered as not implemented."""


ARCHITECTURES = {
    "x86_64": Architecture(audit_number=0xC000003E, profile_name="SCMP_ARCH_X86_64", foreign_from=0x40000000),
    "aarch64": Architecture(audit_number=0xC00000B7, profile_name="SCMP_ARCH_AARCH64"),
}


def bpf_filter(machine: str | None = None) -> bytes | None:
    """Returns the BPF program for this machine (or the named one); None if its call numbers are not known."""
    name = machine or platform.machine()
    return assemble_bpf(name) if name in MACHINES else None


@cache
def seccomp_profile(machine: str | None = None) -> str | None:
    """Returns the profile for an engine on this machine (or the named one), as JSON; None if `bpf_filter` has none.

    Without sub-architectures: a program that makes 32-bit or x32 calls is ended by SIGSYS.
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
    """Returns a digest of the current filter; empty if there is none on this machine. Both forms come from one policy,
    so one digest stands for both."""
    profile = seccomp_profile()
    return "" if profile is None else hashlib.sha256(profile.encode()).hexdigest()[:32]


def _profile_arguments(alternative: Alternative) -> list[dict[str, Any]]:
    return [
        {"index": each.argument, "value": each.mask, "valueTwo": each.value, "op": "SCMP_CMP_MASKED_EQ"}
        for each in alternative
    ]


def assemble_bpf(machine: str) -> bytes:
    """Returns the filter for one of ARCHITECTURES as an array of struct sock_filter."""
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
    """Returns instructions that allow the call if all conditions hold, and otherwise continue after them."""
    remaining = 3 * len(alternative)
    steps = []
    for each in alternative:
        steps += [_instruction(_LOAD, _FIRST_ARGUMENT + 8 * each.argument), _instruction(_MASK, each.mask)]
        remaining -= 3
        steps.append(_instruction(_JUMP_EQUAL, each.value, jump_false=remaining + 1))
    return [*steps, _instruction(_RETURN, _ALLOW)]


def _number_instructions(actions: dict[int, int]) -> list[bytes]:
    """Returns one comparison for each range of numbers with the same action, from the highest range down."""
    steps: list[bytes] = []
    for number in range(max(*actions, MAX_DENIED_NUMBER) + 1, 0, -1):
        action = _action_for(actions, number)
        if action != _action_for(actions, number - 1):
            steps += [_instruction(_JUMP_AT_LEAST, number, jump_false=1), _instruction(_RETURN, action)]
    return [*steps, _instruction(_RETURN, _action_for(actions, 0))]


def _action_for(actions: dict[int, int], number: int) -> int:
    return actions.get(number, _DENY if number <= MAX_DENIED_NUMBER else _NO_SUCH_CALL)


def _instruction(code: int, value: int, *, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """Returns one instruction; `jump_true` and `jump_false`: how many following instructions a jump skips."""
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


WORD_MASK = 0xFFFFFFFF
"""Arguments are compared as 32-bit words, as the kernel takes these; the upper half is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Argument number `argument` (from 0) must equal `value` in the bits of `mask`."""

    argument: int
    value: int
    mask: int = WORD_MASK


Alternative = tuple[Condition, ...]
"""Conditions that must all hold."""

_NEW_NAMESPACE = 0x7E020000
"""linux/sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

_TERMINAL_INPUT = (0x5412, 0x541C)
"""asm-generic/ioctls.h: TIOCSTI and TIOCLINUX, which insert input into the controlling terminal."""

_INTERNET = (socket.AF_INET, socket.AF_INET6)
_PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
_NETLINK_ROUTE = 0
"""linux/netlink.h: the list of network interfaces, which C libraries request."""


_OLDEST_FCNTL = 63
"""Commands of fcntl up to this number (asm-generic/fcntl.h) are those of POSIX, and locks."""

_FCNTL = (*range(1030, 1035),)
"""linux/fcntl.h: F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS and F_GET_SEALS. Not F_SETLEASE and related
ones: to open a file under a lease blocks for 45 s, and a container could take leases on the host's files, which belong
to the same user."""


def none_of(values: Iterable[int], argument: int) -> tuple[Alternative, ...]:
    """Returns alternatives that hold if an argument is none of `values`. They only test for equal bits: libseccomp has
    no "not equal" with a mask."""
    return tuple(
        (Condition(argument=argument, value=value, mask=mask),)
        for value, mask in _complement_masks(tuple(values), 0, 0, 31)
    )


def _complement_masks(values: tuple[int, ...], prefix: int, mask: int, bit: int) -> Iterator[tuple[int, int]]:
    """Yields the largest groups of words with common first bits that contain none of `values`, as (bits, mask)."""
    if not values:
        yield prefix, mask
    elif bit >= 0:
        for side in (0, 1 << bit):
            kept = tuple(value for value in values if value & (1 << bit) == side)
            yield from _complement_masks(kept, prefix | side, mask | 1 << bit, bit - 1)


CONDITIONAL: dict[str, tuple[Alternative, ...]] = {
    "clone": ((Condition(argument=0, value=0, mask=_NEW_NAMESPACE),),),
    "fcntl": (
        (Condition(argument=1, value=0, mask=WORD_MASK & ~_OLDEST_FCNTL),),
        *((Condition(argument=1, value=command),) for command in _FCNTL),
    ),
    "ioctl": none_of(_TERMINAL_INPUT, 1),
    # Set the default personality, or read the current one.
    "personality": ((Condition(argument=0, value=0),), (Condition(argument=0, value=WORD_MASK),)),
    "socket": (
        (Condition(argument=0, value=socket.AF_UNIX),),
        *(
            (Condition(argument=0, value=family), Condition(argument=2, value=protocol))
            for family in _INTERNET
            for protocol in _PROTOCOLS
        ),
        (Condition(argument=0, value=socket.AF_NETLINK), Condition(argument=2, value=_NETLINK_ROUTE)),
    ),
    "socketpair": ((Condition(argument=0, value=socket.AF_UNIX),),),
}
"""Calls that are allowed if one of the alternatives for their arguments holds."""

UNIMPLEMENTED = ("clone3",)
"""Calls that are answered as not implemented: the flags of clone3 are in memory, which a filter cannot read. The C
library then uses clone."""

MAX_DENIED_NUMBER = 450
"""Calls above this number (Linux 5.17) that are not allowed are answered as not implemented, and not as refused."""

MACHINES = ("x86_64", "aarch64")
"""Machines whose call numbers are known, in the order of the columns below."""

_OTHER_NUMBERS = """
clone 56 220 | clone3 435 435 | fcntl 72 25 | ioctl 16 29 | personality 135 92 | socket 41 198 | socketpair 53 199
"""

# Name, number on x86_64, number on aarch64 (asm/unistd_64.h, asm-generic/unistd.h). Allowed with any arguments.
_ALLOWED_NUMBERS = """
accept 43 202 | accept4 288 242 | access 21 - | adjtimex 159 171 | alarm 37 - | arch_prctl 158 - | bind 49 200
brk 12 214 | cachestat 451 451 | capget 125 90 | capset 126 91 | chdir 80 49 | chmod 90 - | chown 92 -
clock_adjtime 305 266 | clock_getres 229 114 | clock_gettime 228 113 | clock_nanosleep 230 115 | close 3 57
close_range 436 436 | connect 42 203 | copy_file_range 326 285 | creat 85 - | dup 32 23 | dup2 33 - | dup3 292 24
epoll_create 213 - | epoll_create1 291 20 | epoll_ctl 233 21 | epoll_pwait 281 22 | epoll_pwait2 441 441
epoll_wait 232 - | eventfd 284 - | eventfd2 290 19 | execve 59 221 | execveat 322 281 | exit 60 93
exit_group 231 94 | faccessat 269 48 | faccessat2 439 439 | fadvise64 221 223 | fallocate 285 47 | fchdir 81 50
fchmod 91 52 | fchmodat 268 53 | fchmodat2 452 452 | fchown 93 55 | fchownat 260 54 | fdatasync 75 83
fgetxattr 193 10 | flistxattr 196 13 | flock 73 32 | fork 57 - | fremovexattr 199 16 | fsetxattr 190 7 | fstat 5 80
fstatfs 138 44 | fsync 74 82 | ftruncate 77 46 | futex 202 98 | futex_requeue 456 456 | futex_wait 455 455
futex_waitv 449 449 | futex_wake 454 454 | futimesat 261 - | get_robust_list 274 100 | getcpu 309 168 | getcwd 79 17
getdents 78 - | getdents64 217 61 | getegid 108 177 | geteuid 107 175 | getgid 104 176 | getgroups 115 158
getitimer 36 102 | getpeername 52 205 | getpgid 121 155 | getpgrp 111 - | getpid 39 172 | getppid 110 173
getpriority 140 141 | getrandom 318 278 | getresgid 120 150 | getresuid 118 148 | getrlimit 97 163
getrusage 98 165 | getsid 124 156 | getsockname 51 204 | getsockopt 55 209 | gettid 186 178 | gettimeofday 96 169
getuid 102 174 | getxattr 191 8 | inotify_add_watch 254 27 | inotify_init 253 - | inotify_init1 294 26
inotify_rm_watch 255 28 | io_cancel 210 3 | io_destroy 207 1 | io_getevents 208 4 | io_pgetevents 333 292
io_setup 206 0 | io_submit 209 2 | ioprio_get 252 31 | ioprio_set 251 30 | kill 62 129 | landlock_add_rule 445 445
landlock_create_ruleset 444 444 | landlock_restrict_self 446 446 | lchown 94 - | lgetxattr 192 9 | link 86 -
linkat 265 37 | listen 50 201 | listxattr 194 11 | llistxattr 195 12 | lremovexattr 198 15 | lseek 8 62
lsetxattr 189 6 | lstat 6 - | madvise 28 233 | membarrier 324 283 | memfd_create 319 279 | mincore 27 232
mkdir 83 - | mkdirat 258 34 | mknod 133 - | mknodat 259 33 | mlock 149 228 | mlock2 325 284 | mlockall 151 230
mmap 9 222 | mprotect 10 226 | mq_getsetattr 245 185 | mq_notify 244 184 | mq_open 240 180 | mq_timedreceive 243 183
mq_timedsend 242 182 | mq_unlink 241 181 | mremap 25 216 | mseal 462 462 | msgctl 71 187 | msgget 68 186
msgrcv 70 188 | msgsnd 69 189 | msync 26 227 | munlock 150 229 | munlockall 152 231 | munmap 11 215
nanosleep 35 101 | newfstatat 262 79 | open 2 - | openat 257 56 | openat2 437 437 | pause 34 - | pidfd_open 434 434
pidfd_send_signal 424 424 | pipe 22 - | pipe2 293 59 | pkey_alloc 330 289 | pkey_free 331 290
pkey_mprotect 329 288 | poll 7 - | ppoll 271 73 | prctl 157 167 | pread64 17 67 | preadv 295 69 | preadv2 327 286
prlimit64 302 261 | process_mrelease 448 448 | pselect6 270 72 | pwrite64 18 68 | pwritev 296 70 | pwritev2 328 287
read 0 63 | readahead 187 213 | readlink 89 - | readlinkat 267 78 | readv 19 65 | recvfrom 45 207 | recvmmsg 299 243
recvmsg 47 212 | removexattr 197 14 | rename 82 - | renameat 264 38 | renameat2 316 276 | restart_syscall 219 128
rmdir 84 - | rseq 334 293 | rt_sigaction 13 134 | rt_sigpending 127 136 | rt_sigprocmask 14 135
rt_sigqueueinfo 129 138 | rt_sigreturn 15 139 | rt_sigsuspend 130 133 | rt_sigtimedwait 128 137
rt_tgsigqueueinfo 297 240 | sched_get_priority_max 146 125 | sched_get_priority_min 147 126
sched_getaffinity 204 123 | sched_getattr 315 275 | sched_getparam 143 121 | sched_getscheduler 145 120
sched_rr_get_interval 148 127 | sched_setaffinity 203 122 | sched_setattr 314 274 | sched_setparam 142 118
sched_setscheduler 144 119 | sched_yield 24 124 | seccomp 317 277 | select 23 - | semctl 66 191 | semget 64 190
semop 65 193 | semtimedop 220 192 | sendfile 40 71 | sendmmsg 307 269 | sendmsg 46 211 | sendto 44 206
set_robust_list 273 99 | set_tid_address 218 96 | setfsgid 123 152 | setfsuid 122 151 | setgid 106 144
setgroups 116 159 | setitimer 38 103 | setpgid 109 154 | setpriority 141 140 | setregid 114 143 | setresgid 119 149
setresuid 117 147 | setreuid 113 145 | setrlimit 160 164 | setsid 112 157 | setsockopt 54 208 | setuid 105 146
setxattr 188 5 | shmat 30 196 | shmctl 31 195 | shmdt 67 197 | shmget 29 194 | shutdown 48 210 | sigaltstack 131 132
signalfd 282 - | signalfd4 289 74 | splice 275 76 | stat 4 - | statfs 137 43 | statx 332 291 | symlink 88 -
symlinkat 266 36 | sync 162 81 | sync_file_range 277 84 | syncfs 306 267 | sysinfo 99 179 | tee 276 77
tgkill 234 131 | time 201 - | timer_create 222 107 | timer_delete 226 111 | timer_getoverrun 225 109
timer_gettime 224 108 | timer_settime 223 110 | timerfd_create 283 85 | timerfd_gettime 287 87
timerfd_settime 286 86 | times 100 153 | tkill 200 130 | truncate 76 45 | umask 95 166 | uname 63 160 | unlink 87 -
unlinkat 263 35 | utime 132 - | utimensat 280 88 | utimes 235 - | vfork 58 - | wait4 61 260 | waitid 247 95
write 1 64 | writev 20 66
"""


def _parse_table(table: str) -> list[list[str]]:
    return [entry.split() for line in table.splitlines() if line for entry in line.split(" | ")]


ALLOWED = tuple(row[0] for row in _parse_table(_ALLOWED_NUMBERS))
"""Calls that are allowed with any arguments."""


def syscall_numbers(machine: str) -> dict[str, int]:
    """Returns the numbers of the named calls on one of MACHINES, without calls that the machine does not have."""
    column = MACHINES.index(machine) + 1
    return {row[0]: int(row[column]) for row in _parse_table(_OTHER_NUMBERS + _ALLOWED_NUMBERS) if row[column] != "-"}
