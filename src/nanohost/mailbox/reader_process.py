"""Runs a process that reads outbound.db files for the host, and can be killed.

SQLite opens files beside the database (its journal, a write-ahead log) in a folder that a container writes. Whatever
the container puts there between a check and the open, the open may block for ever, the read may take all memory, or a
parser may crash. Here that ends one small process without environment, secrets or descriptors other than its socket.

Uses only the standard library and nanohost_protocol. Protocol on descriptor 0, a stream socket: requests and answers
alternate, each a length (4 bytes, big-endian) and that many bytes of JSON. A request is {path, look, arguments, busy_s,
deadline_s}; `look` is the query's name. An answer is {"value": …} or {"error": class name, "text": …, "errno": …}, with
"cpu_s" and whether it is the "last" of this process. The process ends at the end of the stream, or by SIGALRM when a
read takes longer than its deadline.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from nanohost.mailbox.file_checks import check_outbound
from nanohost.mailbox.query_functions import QUERY_FUNCTIONS
from nanohost_protocol.errors import ProtocolError
from nanohost_protocol.outbound import outbound_snapshot

MAX_MEMORY_BYTES = 1024**3
"""Bytes of address space: an interpreter, SQLite's page cache (2 MB) and one answer are a tenth of it."""
RETIRE_AT_BYTES = 64 * 1024**2
"""A reader that uses more bytes than this after an answer ends, to free its memory."""
MAX_SQLITE_STEPS = 2_000_000
"""Steps of SQLite's virtual machine in one read. A normal read takes thousands, the largest allowed one some 100,000; a
search of a table with a million rows takes more than this limit."""
MAX_DESCRIPTORS = 32
LENGTH_BYTES = 4


def main() -> None:
    """Serve descriptor 0 until it closes."""
    _set_limits()
    with os.fdopen(0, "rb") as requests, os.fdopen(os.dup(0), "wb") as answers:
        while request := _read_request(requests):
            signal.setitimer(signal.ITIMER_REAL, request["deadline_s"])
            answer, is_last = _answer(request)
            signal.setitimer(signal.ITIMER_REAL, 0)
            answers.write(len(answer).to_bytes(LENGTH_BYTES, "big") + answer)
            answers.flush()
            if is_last:
                return


def _set_limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it must write nothing, whatever a file makes SQLite try
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, MAX_DESCRIPTORS))


def _read_request(requests: BinaryIO) -> dict[str, Any]:
    length = int.from_bytes(requests.read(LENGTH_BYTES), "big")
    request: dict[str, Any] = json.loads(requests.read(length) or "{}")
    return request


def _answer(request: dict[str, Any]) -> tuple[bytes, bool]:
    started = time.process_time()
    try:
        answer: dict[str, object] = {"value": _run_query(request)}
        return _encode_answer(answer, started)
    except ProtocolError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    except OSError as error:
        answer = {"error": "OSError", "text": str(error), "errno": error.errno}
    except Exception as error:
        # The host handles an error of this file: what a container wrote must only affect its own session.
        text = f"{request['path']} holds what cannot be read: {type(error).__name__}: {error}"
        answer = {"error": ProtocolError.__name__, "text": text}
    return _encode_answer(answer, started)


def _run_query(request: dict[str, Any]) -> object:
    path = Path(request["path"])
    check_outbound(path)
    with outbound_snapshot(path, busy_timeout_s=request["busy_s"], max_steps=MAX_SQLITE_STEPS) as box:
        return QUERY_FUNCTIONS[request["look"]](box, *request["arguments"])


def _encode_answer(answer: dict[str, object], started_at: float) -> tuple[bytes, bool]:
    cpu_s = time.process_time() - started_at
    is_last = _should_retire()
    whole = {**answer, "cpu_s": cpu_s, "last": is_last}
    return json.dumps(whole, default=_to_json, ensure_ascii=False).encode(), is_last


def _should_retire() -> bool:
    # Not ru_maxrss: on Linux it includes the parent's peak, and a large host's readers would end after each read.
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return False
    return pages * resource.getpagesize() > RETIRE_AT_BYTES


def _to_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    assert dataclasses.is_dataclass(value), "queries return rows, times and plain values"
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
