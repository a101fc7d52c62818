"""Configures logging: one line an event, coloured on a terminal, JSON for a service manager, never a secret.

structlog and the standard library's loggers share one handler, so that one filter sees the lines of every library.
NANOHOST_LOG sets the format (plain, json) and the level (quiet, debug), one word or several: json,debug. What people
and agents write is logged at the level debug only; other levels name messages by their ids.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LOG_VARIABLE = "NANOHOST_LOG"
LOG_FORMATS = ("plain", "json")
LEVELS = {"quiet": logging.ERROR, "debug": logging.DEBUG}
REDACTED = "[hidden]"
NOISY_LOGGERS = (
    "httpx",
    "httpcore",
    "aiohttp.access",
    "asyncio",
    "urllib3",
    "docker",
    "discord",
    "telegram",
    "slack_bolt",
)
MIN_SECRET_CHARS = 6
"""To hide a shorter value would also hide ordinary words."""
MAX_TRACKED_FAILURES = 500
"""Different failures that are counted; when there are more, all counts start again."""

_SECRET_PATTERN = re.compile(
    r"(?i:\bbearer\s+)[\w.~+/=-]{8,}"
    r"|sk-ant-[\w-]{6,}"
    r"|\bbot\d{5,}:[\w-]{20,}|\b\d{8,}:[\w-]{30,}"
    r"|\bxox[a-z]-[\w-]{6,}|\bxapp-[\w-]{6,}"
)


class SecretScrubber:
    """Removes known secrets, and text that looks like a secret, from everything that is logged."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._values: set[str] = set()

    def add_secrets(self, secrets: Iterable[str]) -> None:
        """Hide these values in all lines from now on. Values below MIN_SECRET_CHARS are ignored."""
        self._values |= {secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}
        longest_first = sorted(self._values, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def scrub(self, text: str) -> str:
        if self._pattern is not None:
            text = self._pattern.sub(REDACTED, text)
        return _SECRET_PATTERN.sub(REDACTED, text)

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {key: self._scrub_value(value) for key, value in event.items()}

    def _scrub_value(self, value: object) -> object:
        if isinstance(value, str):
            return self.scrub(value)
        if isinstance(value, Mapping):
            return {key: self._scrub_value(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._scrub_value(inner) for inner in value]
        return value if isinstance(value, (int, float, bool)) or value is None else self.scrub(str(value))


class RepeatedTracebackFilter(logging.Filter):
    """Shows the traceback of a failure once. Repeats are logged without it, each time that their count has doubled.

    Tens of thousands of attempts that fail alike (no descriptors, a full disk) would fill the disk with tracebacks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        event = record.msg if isinstance(record.msg, dict) else {}
        error = _exception_of(event.get("exc_info") or record.exc_info)
        if error is None:
            return True
        key = (str(event.get("event", record.msg))[:200], f"{type(error).__name__}: {error}"[:200])
        if key not in self._counts and len(self._counts) >= MAX_TRACKED_FAILURES:
            self._counts.clear()
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count == 1:
            return True
        if count & (count - 1):
            return False
        record.exc_info, record.exc_text = None, None
        if event:
            record.msg = {**event, "exc_info": None, "times": count}
        else:
            record.msg, record.args = f"{record.getMessage()} ({key[1]}, {count} times)", None
        return True


class LibraryDebugFilter(logging.Filter):
    """Drops debug lines of libraries, such as two lines for each SQL statement; keeps our own."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.INFO or isinstance(record.msg, dict)


def _exception_of(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    elif exc_info is True:
        exc_info = sys.exc_info()[1]
    return exc_info if isinstance(exc_info, BaseException) else None


class _LocalTimestamper:
    """Adds the local time of day and its UTC offset to a line."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        now = datetime.now(UTC).astimezone(self._zone)
        event["timestamp"] = now.isoformat(timespec="seconds").partition("T")[2]
        return event


scrubber = SecretScrubber()
"""One for the whole process: a secret that one part adds is hidden in the lines of every part."""


def supports_colours(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream shows colours and the user wants them (see no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def configure_logging(
    environ: Mapping[str, str], *, stream: TextIO | None = None, log_format: str = "", zone: tzinfo | None = None
) -> None:
    """Send all logs to `stream` (standard error by default). May be called again: the last call counts.

    `zone`: the time zone of plain lines (the machine's by default); json lines are in UTC. `log_format` is used if
    NANOHOST_LOG is empty; without either, the format is plain on a terminal and json elsewhere. An unknown word is
    logged and ignored: it must not keep the host from starting.
    """
    target = sys.stderr if stream is None else stream
    words = _split_words(environ.get(LOG_VARIABLE) or log_format)
    level = next((LEVELS[word] for word in words if word in LEVELS), logging.INFO)
    default = "plain" if target.isatty() or level == logging.ERROR else "json"
    log_format = next((word for word in words if word in LOG_FORMATS), default)
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _LocalTimestamper(zone) if log_format == "plain" else structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(min(level, logging.INFO)),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(_make_formatter(log_format, processors, colours=supports_colours(target, environ)))
    handler.addFilter(LibraryDebugFilter())
    handler.addFilter(RepeatedTracebackFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO if level == logging.DEBUG else logging.WARNING)
    for word in words:
        if word not in LOG_FORMATS and word not in LEVELS:
            known = ", ".join((*LOG_FORMATS, *LEVELS))
            structlog.get_logger().error("log_level_unknown", word=word[:40], hint=f"{LOG_VARIABLE} takes {known}")


def _split_words(value: str) -> list[str]:
    return value.lower().replace(",", " ").split()


def _make_formatter(log_format: str, processors: list[Processor], *, colours: bool) -> logging.Formatter:
    """Build a formatter that turns a traceback into text before it scrubs the line: a traceback may hold a secret."""
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=colours)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=processors,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            scrubber,
            renderer,
        ],
    )
