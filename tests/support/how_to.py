"""Files shown on pages of docs/how-to: the tests prove that they work."""

from __future__ import annotations

from pathlib import Path

HOW_TO_DIR = Path(__file__).parents[2] / "docs" / "how-to"


def read_example(page: str, number: int = 0) -> str:
    """The Python file of this number on a page."""
    return (HOW_TO_DIR / page).read_text(encoding="utf-8").split("```python\n")[number + 1].partition("```")[0]
