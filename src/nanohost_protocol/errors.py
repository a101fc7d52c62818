"""Defines the errors of a session's files.

ProtocolError
├── InvalidFileError   not a database, or another program's database
├── VersionMismatch    written by another version of the contract
├── FileNotReady       without tables, or left half written by a process that died: there is nothing to read yet
├── FileLocked         locked by the other side: try again
├── ReadLimitExceeded  reading it takes more steps, time or memory than a mailbox may
└── PayloadError       the content of a row does not match its kind
"""

from __future__ import annotations


class ProtocolError(Exception):
    """A session's file cannot be used as it is."""


class InvalidFileError(ProtocolError):
    """The file is not a database, is damaged, or belongs to something else."""


class VersionMismatch(ProtocolError):
    """The file was written by another version of the contract; the text says which side to update."""

    def __init__(self, file: str, *, found: int, expected: int) -> None:
        older = "the program that wrote it" if found < expected else "this program"
        super().__init__(f"{file} has mailbox version {found}, this program speaks {expected}: update {older}")
        self.found = found
        self.expected = expected


class FileNotReady(ProtocolError):
    """The file has no tables yet, or a journal that only its owner may roll back."""


class FileLocked(ProtocolError):
    """The file is locked by the other side for longer than the time allowed."""


class ReadLimitExceeded(ProtocolError):
    """Reading the file takes more steps, time or memory than a mailbox may."""


class PayloadError(ProtocolError):
    """The content of a row is not JSON, or not what its kind requires."""
