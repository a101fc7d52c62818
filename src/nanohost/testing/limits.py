"""How long a test waits for what has to happen. Only what hangs takes so long, on however busy a machine."""

from __future__ import annotations

import os
from typing import Final

HANG_S: Final = 40.0 * float(os.environ.get("NANOHOST_TEST_PATIENCE", "1"))
"""Seconds. Below the sweep's minute, or a wake-up that was lost would not be noticed."""
