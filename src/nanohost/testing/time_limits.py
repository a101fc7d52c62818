"""How long a test waits for what has to happen, on however slow and busy a machine.

A test names its limits as they are on a machine of which it is the only user, and takes each through `seconds` at the
moment when the wait begins. Parameters named `limit_s` or `timeout_s` are of the quiet machine, too: the function that
waits scales them.
"""

from __future__ import annotations

import os
from typing import Final

FACTOR_VARIABLE: Final = "NANOHOST_TEST_TIME_FACTOR"
"""The environment variable for machines that are slow at any load: 3 makes every limit three times as long."""
HANG_TIMEOUT_S: Final = 40.0
"""Seconds. Only what hangs takes so long. Below a minute, after which a host's sweep finds what a wake-up that was lost
did not."""


def scaled_timeout(idle_machine_s: float) -> float:
    """A limit of `idle_machine_s` seconds, as long as it has to be here and now.

    It is multiplied by NANOHOST_TEST_TIME_FACTOR (1 if it is not set) and by the processes that want each core, the
    average of the last minute, where that is more than one. Raises ValueError when the variable holds no number above
    zero.
    """
    return scale_timeout(
        idle_machine_s, os.environ.get(FACTOR_VARIABLE, "1"), load=os.getloadavg()[0], cores=os.cpu_count() or 1
    )


def scale_timeout(idle_machine_s: float, factor: str, *, load: float, cores: int) -> float:
    """What `seconds` decides, of the variable's text, the load and the number of cores."""
    try:
        times = float(factor)
    except ValueError:
        times = 0.0
    if not 0 < times < float("inf"):
        raise ValueError(f"{FACTOR_VARIABLE} is {factor!r}: set it to a number above zero, such as 2, or unset it")
    return idle_machine_s * times * max(1.0, load / cores)
