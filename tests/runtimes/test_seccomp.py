"""The sandbox's filter, run by a small interpreter: the kernel takes the same bytes in the conformance suite."""

from __future__ import annotations

import errno
import struct

import pytest

from nanohost.runtimes.seccomp import ARCHITECTURES, Architecture, assemble, sandbox_filter

ALLOW = 0x7FFF0000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS

NAMES = pytest.mark.parametrize("machine", sorted(ARCHITECTURES))


def verdict(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter answers to one system call."""
    architecture = ARCHITECTURES[machine]
    values = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, architecture.audit if audit is None else audit, 0, *values)
    program = [*struct.iter_unpack("=HBBI", assemble(architecture))]
    accumulator = position = 0
    while True:
        code, yes, no, value = program[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x06:
                return int(value)
            case 0x15:
                position += yes if accumulator == value else no
            case 0x35:
                position += yes if accumulator >= value else no
            case 0x45:
                position += yes if accumulator & value else no


def numbers(machine: str, x86_64: int, aarch64: int) -> int:
    return {"x86_64": x86_64, "aarch64": aarch64}[machine]


@NAMES
def test_everyday_calls_pass(machine: str) -> None:
    for x86_64, aarch64 in ((0, 63), (1, 64), (59, 221), (41, 198), (202, 98), (9, 222)):
        assert verdict(machine, numbers(machine, x86_64, aarch64)) == ALLOW


@NAMES
def test_calls_that_change_mounts_namespaces_or_the_kernel_are_refused(machine: str) -> None:
    for x86_64, aarch64 in (
        (165, 40),
        (272, 97),
        (308, 268),
        (101, 117),
        (321, 280),
        (250, 219),
        (175, 105),
        (430, 430),
    ):
        assert verdict(machine, numbers(machine, x86_64, aarch64)) == EPERM


@NAMES
def test_a_process_may_be_made_but_no_namespace(machine: str) -> None:
    clone = numbers(machine, 56, 220)
    assert verdict(machine, clone, 0x00000100 | 17) == ALLOW
    assert verdict(machine, clone, 0x10000000 | 17) == EPERM
    assert verdict(machine, clone, 0x00020000) == EPERM
    assert verdict(machine, 435) == ENOSYS


@NAMES
def test_typing_into_a_terminal_is_refused_whatever_the_high_bits_say(machine: str) -> None:
    ioctl = numbers(machine, 16, 29)
    assert verdict(machine, ioctl, 0, 0x5413) == ALLOW
    assert verdict(machine, ioctl, 0, 0x5412) == EPERM
    assert verdict(machine, ioctl, 0, 0xDEAD_0000_0000_5412) == EPERM
    assert verdict(machine, ioctl, 0, 0x541C) == EPERM


@NAMES
def test_calls_of_another_architecture_do_not_exist(machine: str) -> None:
    assert verdict(machine, 1, audit=0x40000003) == ENOSYS


def test_the_second_calling_convention_of_x86_does_not_exist() -> None:
    assert verdict("x86_64", 0x40000000 | 165) == ENOSYS


def test_an_unknown_machine_gets_no_filter_rather_than_a_wrong_one() -> None:
    assert sandbox_filter("pdp11") is None


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=list(ARCHITECTURES))
def test_no_call_is_named_twice(architecture: Architecture) -> None:
    assert len(set(architecture.denied)) == len(architecture.denied)
