"""The system call filter in both of its forms, run by small interpreters: kernel and engines load the same forms in the
conformance suite."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import json
import struct
from dataclasses import dataclass
from functools import cache
from itertools import chain, product
from pathlib import Path

import pytest

from nanohost.runtimes.seccomp import (
    ALLOWED,
    ARCHITECTURES,
    CONDITIONAL,
    MACHINES,
    MAX_DENIED_NUMBER,
    UNIMPLEMENTED,
    assemble_bpf,
    bpf_filter,
    none_of,
    seccomp_profile,
    syscall_numbers,
)

ALLOW = 0x7FFF0000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS

MACHINE = pytest.mark.parametrize("machine", MACHINES)


Program = list[tuple[int, int, int, int]]


def verdict(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """The filter's verdict on one system call."""
    return answer(ours(machine), ARCHITECTURES[machine].audit_number if audit is None else audit, number, *arguments)


@cache
def ours(machine: str) -> Program:
    return [*struct.iter_unpack("=HBBI", assemble_bpf(machine))]


def answer(program: Program, audit: int, number: int, *arguments: int) -> int:
    """A program's verdict on one system call."""
    values = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, audit, 0, *values)
    accumulator = position = 0
    while True:
        code, yes, no, value = program[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x06:
                return int(value)
            case 0x05:
                position += value
            case 0x15:
                position += yes if accumulator == value else no
            case 0x25:
                position += yes if accumulator > value else no
            case 0x35:
                position += yes if accumulator >= value else no
            case 0x45:
                position += yes if accumulator & value else no
            case 0x54:
                accumulator &= value
            case _:
                raise AssertionError(f"an instruction that is not known here: {code:#x}")


def profile_allows(machine: str, name: str, *arguments: int) -> bool:
    """The profile's verdict on one system call, as libseccomp reads it."""
    profile = json.loads(seccomp_profile(machine) or "")
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    values = (*arguments, *[0] * (6 - len(arguments)))
    return any(
        rule["action"] == "SCMP_ACT_ALLOW"
        and name in rule["names"]
        and all(values[each["index"]] & each["value"] == each["valueTwo"] for each in rule.get("args", ()))
        for rule in profile["syscalls"]
    )


@MACHINE
@pytest.mark.parametrize(
    "name", ["read", "openat", "execve", "futex", "wait4", "mmap", "seccomp", "prctl", "close_range"]
)
def test_everyday_system_calls_are_allowed(machine: str, name: str) -> None:
    assert verdict(machine, syscall_numbers(machine)[name]) == ALLOW
    assert profile_allows(machine, name)


@pytest.mark.behaviour("SE-10")
@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64"),
    [
        ("mount", 165, 40),
        ("unshare", 272, 97),
        ("setns", 308, 268),
        ("ptrace", 101, 117),
        ("process_vm_readv", 310, 270),
        ("bpf", 321, 280),
        ("keyctl", 250, 219),
        ("init_module", 175, 105),
        ("fsopen", 430, 430),
        ("io_uring_setup", 425, 425),
        ("userfaultfd", 323, 282),
        ("open_by_handle_at", 304, 265),
    ],
)
def test_dangerous_system_calls_are_refused(name: str, x86_64: int, aarch64: int) -> None:
    assert verdict("x86_64", x86_64) == verdict("aarch64", aarch64) == EPERM
    assert not profile_allows("x86_64", name)
    assert not profile_allows("aarch64", name)


@MACHINE
@pytest.mark.behaviour("SE-10")
@pytest.mark.parametrize(
    ("family", "protocol", "expected"),
    [
        *((1, 0, ALLOW), (2, 6, ALLOW), (10, 17, ALLOW), (16, 0, ALLOW)),
        *((2, 132, EPERM), (16, 9, EPERM), (17, 0, EPERM), (38, 0, EPERM), (40, 0, EPERM), (0, 0, EPERM)),
    ],
    ids=lambda each: str(each),
)
def test_only_local_internet_and_interface_sockets_can_be_made(
    machine: str, family: int, protocol: int, expected: int
) -> None:
    assert verdict(machine, syscall_numbers(machine)["socket"], family, 1, protocol) == expected
    assert profile_allows(machine, "socket", family, 1, protocol) == (expected == ALLOW)


@MACHINE
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (0x00000100 | 17,), ALLOW),
        ("clone", (0x10000000 | 17,), EPERM),
        ("clone", (0x00020000,), EPERM),
        ("clone3", (), ENOSYS),
        *(("fcntl", (0, command), ALLOW) for command in (0, 1, 4, 6, 7, 9, 37, 1030, 1031, 1032, 1033, 1034)),
        *(("fcntl", (0, command), EPERM) for command in (1024, 1025, 1026, 1040)),
        ("ioctl", (0, 0x5413), ALLOW),
        ("ioctl", (0, 0x5412), EPERM),
        ("ioctl", (0, 0x541C), EPERM),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x0040000,), EPERM),
        ("socketpair", (1, 1), ALLOW),
        ("socketpair", (30, 1), EPERM),
    ],
    ids=lambda each: str(each),
)
def test_arguments_are_checked_whatever_their_high_bits(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    high = tuple(0xDEAD_0000_0000_0000 | each for each in arguments)
    for given in (arguments, high):
        assert verdict(machine, syscall_numbers(machine)[name], *given) == expected
        assert profile_allows(machine, name, *given) == (expected == ALLOW)


@MACHINE
def test_every_number_has_the_same_verdict_in_filter_and_profile(machine: str) -> None:
    by_number = {number: name for name, number in syscall_numbers(machine).items() if name not in CONDITIONAL}
    for number in range(600):
        name = by_number.get(number, "")
        if number not in {syscall_numbers(machine)[each] for each in CONDITIONAL}:
            assert (verdict(machine, number) == ALLOW) == profile_allows(machine, name), number


@MACHINE
def test_a_system_call_newer_than_the_list_returns_enosys(machine: str) -> None:
    assert verdict(machine, 450) == EPERM
    assert verdict(machine, 467) == verdict(machine, 9999) == ENOSYS


@MACHINE
def test_system_call_numbers_match_libseccomp(machine: str) -> None:
    found = ctypes.util.find_library("seccomp")
    if found is None:
        pytest.skip("libseccomp is not installed")
    resolve = ctypes.CDLL(found).seccomp_syscall_resolve_name_arch
    audit = ctypes.c_uint32(ARCHITECTURES[machine].audit_number)
    theirs = {name: resolve(audit, name.encode()) for name in (*ALLOWED, *CONDITIONAL, *UNIMPLEMENTED)}
    # Negative: not a call of this machine, or newer than this libseccomp.
    assert {name: number for name, number in theirs.items() if number >= 0}.items() <= syscall_numbers(machine).items()
    assert sum(number >= 0 for number in theirs.values()) > 200


class Comparison(ctypes.Structure):
    """seccomp.h: struct scmp_arg_cmp."""

    _fields_ = (("index", ctypes.c_uint), ("op", ctypes.c_int), ("value", ctypes.c_uint64), ("second", ctypes.c_uint64))


MASKED_EQUAL = 7
NOT_KNOWN = -1


@dataclass(frozen=True, slots=True)
class Theirs:
    """The program that libseccomp compiles from the profile, as Docker and Podman do. `unknown`: the calls that this
    libseccomp is too old for, and leaves out."""

    program: Program
    unknown: frozenset[str]


def compiled_by_libseccomp(machine: str, folder: Path) -> Theirs:
    found = ctypes.util.find_library("seccomp")
    if found is None:
        pytest.skip("libseccomp is not installed")
    library = ctypes.CDLL(found)
    library.seccomp_init.restype = ctypes.c_void_p
    profile = json.loads(seccomp_profile(machine) or "")
    context = ctypes.c_void_p(library.seccomp_init(0x00050000 | profile["defaultErrnoRet"]))
    assert library.seccomp_arch_remove(context, library.seccomp_arch_native()) == 0
    assert library.seccomp_arch_add(context, ctypes.c_uint32(ARCHITECTURES[machine].audit_number)) == 0
    unknown = set()
    for rule in profile["syscalls"]:
        arguments = [
            Comparison(one["index"], MASKED_EQUAL, one["value"], one["valueTwo"]) for one in rule.get("args", ())
        ]
        action = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else 0x00050000 | rule["errnoRet"]
        for name in rule["names"]:
            # By the native number, or one below zero that stands for a call of other machines: it is translated.
            if (number := library.seccomp_syscall_resolve_name(name.encode())) == NOT_KNOWN:
                unknown.add(name)
            else:
                array = (Comparison * len(arguments))(*arguments)
                assert library.seccomp_rule_add_array(context, action, number, len(arguments), array) == 0, name
    with (folder / "program").open("w+b") as file:
        assert library.seccomp_export_bpf(context, file.fileno()) == 0
        file.seek(0)
        program = [*struct.iter_unpack("=HBBI", file.read())]
    library.seccomp_release(context)
    return Theirs(program, frozenset(unknown))


def beside(*values: int) -> list[int]:
    """These values, and some that differ in a bit or by one, in the lower half and in the upper one."""
    return sorted(
        {
            changed & 0xFFFF_FFFF_FFFF_FFFF
            for value in values
            for changed in (value, value - 1, value + 1, *(value ^ 1 << bit for bit in (*range(0, 32, 3), 31, 32, 63)))
        }
    )


@MACHINE
@pytest.mark.behaviour("SE-10")
def test_libseccomp_compiles_the_profile_to_the_bubblewrap_filters_verdicts(machine: str, tmp_path: Path) -> None:
    theirs, audit, known = (
        compiled_by_libseccomp(machine, tmp_path),
        ARCHITECTURES[machine].audit_number,
        syscall_numbers(machine),
    )
    skipped = {known[name] for name in theirs.unknown if name in known}
    for number in {*range(600)} - skipped - {known[name] for name in CONDITIONAL}:
        expected = verdict(machine, number)
        # An engine answers EPERM to calls newer than the list, or ENOSYS by a program that it puts before this one.
        allowed_for = {EPERM, ENOSYS} if expected == ENOSYS and number > MAX_DENIED_NUMBER else {expected}
        assert answer(theirs.program, audit, number) in allowed_for, number
    assert len(skipped) < 20


@MACHINE
@pytest.mark.behaviour("SE-10")
@pytest.mark.parametrize("name", CONDITIONAL)
def test_libseccomp_checks_arguments_as_the_bubblewrap_filter_does(machine: str, name: str, tmp_path: Path) -> None:
    theirs, audit, number = (
        compiled_by_libseccomp(machine, tmp_path),
        ARCHITECTURES[machine].audit_number,
        syscall_numbers(machine)[name],
    )
    looked_at: dict[int, set[int]] = {}
    for condition in chain.from_iterable(CONDITIONAL[name]):
        looked_at.setdefault(condition.argument, set()).update((condition.value, condition.mask))
    tried = [beside(*looked_at[index]) if index in looked_at else [0] for index in range(3)]
    answers = {verdict(machine, number, *arguments) for arguments in product(*tried)}
    assert answers == {ALLOW, EPERM}
    for arguments in product(*tried):
        assert answer(theirs.program, audit, number, *arguments) == verdict(machine, number, *arguments), arguments


def test_a_condition_that_excludes_values_is_expressed_with_equal_bits() -> None:
    (groups,) = (tuple(each for (each,) in none_of((3, 12), 1)),)
    for value in (*range(64), 0xFFFFFFFF, 0x80000003):
        assert sum(value & each.mask == each.value for each in groups) == (value not in (3, 12)), value


@MACHINE
def test_calls_of_another_architecture_return_enosys(machine: str) -> None:
    assert verdict(machine, 1, audit=0x40000003) == ENOSYS
    (kind,) = json.loads(seccomp_profile(machine) or "")["archMap"]
    assert kind["subArchitectures"] == []


def test_the_x32_calling_convention_returns_enosys() -> None:
    assert verdict("x86_64", 0x40000000 | 165) == verdict("x86_64", 0x40000000) == ENOSYS


def test_an_unknown_architecture_gets_no_filter() -> None:
    assert bpf_filter("pdp11") is None
    assert seccomp_profile("pdp11") is None


@MACHINE
def test_no_system_call_number_has_two_names(machine: str) -> None:
    known = syscall_numbers(machine)
    assert len(set(known.values())) == len(known)
