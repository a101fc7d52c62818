"""What a measurement is, and how a set of them becomes a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number. `key` is its name in bench.json; `target` the most it should be, None where it only explains."""

    key: str
    what: str
    value: float | bool
    unit: str = ""
    target: float | bool | None = None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        if isinstance(self.target, bool):
            return "ok" if self.value is self.target else "MISSED"
        return "ok" if self.value <= self.target else "MISSED"


def median(samples: Sequence[float]) -> float:
    return round(statistics.median(samples), 1)


def percentile(samples: Sequence[float], part: float) -> float:
    """The sample below which `part` (0 to 1) of all samples lie."""
    ordered = sorted(samples)
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1)


def table(measurements: Sequence[Measurement]) -> str:
    """A Markdown table, aligned."""
    rows = [("what", "measured", "target", "", "key")]
    for m in measurements:
        target = "" if m.target is None else _shown(m.target, m.unit)
        rows.append((m.what, _shown(m.value, m.unit), target, m.verdict, m.key))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def write(measurements: Sequence[Measurement], path: Path) -> None:
    path.write_text(json.dumps({m.key: m.value for m in measurements}, indent=2) + "\n", encoding="utf-8")


def _shown(value: float | bool, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g} {unit}".strip()
