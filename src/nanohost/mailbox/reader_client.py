"""Starts reader processes, encodes requests and decodes answers, for `reader_pool` and `blocking_reader`."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

import nanohost
import nanohost_protocol
from nanohost.mailbox.queries import Query
from nanohost_protocol.errors import FileLocked, FileNotReady, InvalidFileError, ProtocolError, ReadLimitExceeded

T = TypeVar("T")

READ_TIMEOUT_S = 3.0
"""The deadline of a read: a thousand times its normal time; a busy machine stalls for less."""
KILL_GRACE_S = 2.0
"""How long after the deadline a reader is killed that has not ended by itself."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes: twice the largest row as JSON with each character escaped."""

_BOOTSTRAP = "import sys; sys.path[:0] = sys.argv[1:]; from nanohost.mailbox.reader_process import main; main()"
_ERRORS = {error.__name__: error for error in (FileLocked, InvalidFileError, FileNotReady, ReadLimitExceeded)}


class ReadTimedOut(ProtocolError):
    """A read did not return within its deadline, and its process was ended."""


class ReadersBusy(Exception):
    """A read was abandoned because too many others are slow. It says nothing about this file."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The answer of a read as unvalidated JSON, and the processor seconds that it took."""

    answer: dict[str, Any]
    cpu_s: float
    is_retiring: bool
    """Whether the process ends after this answer."""

    def parse(self, query: Query[T], path: Path) -> T:
        """Returns the validated result. Raises ProtocolError and OSError if the read failed or the answer is
        invalid."""
        text = str(self.answer.get("text", ""))
        if "value" not in self.answer and self.answer.get("error") == OSError.__name__:
            raise OSError(self.answer.get("errno"), text)
        if "value" not in self.answer:
            raise _ERRORS.get(str(self.answer.get("error")), ProtocolError)(text)
        try:
            return query.answer_type.validate_python(self.answer["value"])
        except ValidationError as error:
            raise ProtocolError(f"{path} holds what makes no sense: {error.errors()[0]['msg']}") from error

    @staticmethod
    def decode(answer: bytes) -> ReadResult:
        """Decode an answer. Raises ValueError, KeyError, TypeError if it is invalid."""
        fields = json.loads(answer)
        return ReadResult(fields, float(fields["cpu_s"]), bool(fields["last"]))


def spawn_reader(child_socket: socket.socket) -> subprocess.Popen[bytes]:
    """Start a process that serves this end of a socket pair. It gets no environment and no other descriptor."""
    roots = dict.fromkeys(str(Path(package.__path__[0]).parent) for package in (nanohost, nanohost_protocol))
    return subprocess.Popen(  # noqa: S603 (our own interpreter with our own words)
        [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, *roots],
        stdin=child_socket.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )


def encode_request(path: Path, query: Query[T], *, busy_s: float, deadline_s: float) -> bytes:
    """Returns a request as it is sent."""
    fields = {
        "path": str(path.absolute()),
        "look": query.function_name,
        "arguments": query.arguments,
        "busy_s": busy_s,
        "deadline_s": deadline_s,
    }
    return json.dumps(fields).encode()


def reader_exit_error(path: Path, code: int, deadline_s: float) -> ProtocolError:
    """Returns the error for a reader process that ended with this exit code."""
    if code == -signal.SIGALRM:
        return ReadTimedOut(f"{path} did not let itself be read within {deadline_s:g} s")
    return ProtocolError(f"{path} ended the process that read it (exit code {code})")
