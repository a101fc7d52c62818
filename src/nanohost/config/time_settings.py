"""Defines the setting of the time zone for times that people read and plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from nanohost.config.section import Section, setting


def _validate_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError("no such time zone") from error
    return name


class TimeSettings(Section):
    table: ClassVar = "host"

    timezone: Annotated[str, AfterValidator(_validate_zone)] = setting(
        "UTC",
        order=30,
        title="The zone of times that are shown and planned. Default: the machine's; where it is UTC you are asked.",
        expected="a time zone's name, such as Europe/Berlin",
    )

    @classmethod
    def defaults(cls, environ: Mapping[str, str]) -> Mapping[str, object]:
        return {"timezone": machine_timezone(environ)}

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


def machine_timezone(environ: Mapping[str, str]) -> str:
    """Returns the machine's time zone by name; UTC if it cannot be found."""
    for name in (environ.get("TZ", "").lstrip(":"), _read_line(Path("/etc/timezone")), _localtime_link_zone()):
        try:
            if name and not name.startswith("/"):
                return _validate_zone(name)
        except ValueError:
            continue
    return "UTC"


def _read_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _localtime_link_zone() -> str:
    try:
        return str(Path("/etc/localtime").readlink()).partition("zoneinfo/")[2]
    except OSError:
        return ""
