"""How a reader process is started, asked, and understood: what both ends of `readers` and `blocking_reader` share."""

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
"""A look that takes longer does not come back. A thousand times what it takes; a busy machine stalls for less."""
KILL_GRACE_S = 2.0
"""How long after its deadline a reader that does not even end is killed."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes: twice the largest row, as JSON, each character escaped."""

_BOOTSTRAP = "import sys; sys.path[:0] = sys.argv[1:]; from nanohost.mailbox.reader_process import main; main()"
_ERRORS = {error.__name__: error for error in (FileLocked, InvalidFileError, FileNotReady, ReadLimitExceeded)}


class ReadTimedOut(ProtocolError):
    """A look did not return within its deadline, and the process that looked was ended."""


class ReadersBusy(Exception):
    """A look was given up because too many others are late. It says nothing of this file."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a look came to, as JSON that nobody checked yet, and the processor seconds it took."""

    answer: dict[str, Any]
    cpu_s: float
    is_retiring: bool
    """The process that looked ends by itself."""

    def parse(self, query: Query[T], path: Path) -> T:
        """What was found. Raises ProtocolError and OSError: why nothing was."""
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
        """Raises ValueError, KeyError, TypeError for what is no answer."""
        found = json.loads(answer)
        return ReadResult(found, float(found["cpu_s"]), bool(found["last"]))


def spawn_reader(child_socket: socket.socket) -> subprocess.Popen[bytes]:
    """Start a process that serves that end of a socket pair. It gets no environment and no other descriptor."""
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
    """One look, as it is sent."""
    fields = {
        "path": str(path.absolute()),
        "look": query.function_name,
        "arguments": query.arguments,
        "busy_s": busy_s,
        "deadline_s": deadline_s,
    }
    return json.dumps(fields).encode()


def reader_exit_error(path: Path, code: int, deadline_s: float) -> ProtocolError:
    """What it means that the process that looked is gone, with that exit code."""
    if code == -signal.SIGALRM:
        return ReadTimedOut(f"{path} did not let itself be read within {deadline_s:g} s")
    return ProtocolError(f"{path} ended the process that read it (exit code {code})")
