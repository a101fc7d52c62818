"""Requirements of tests: without them they are skipped, or fail where NANOHOST_REQUIRE_<NAME>=1 is set."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_or_fail(name: str, why: str) -> NoReturn:
    """Skip or fail the test. `name`: DOCKER, PODMAN or BUBBLEWRAP."""
    if os.environ.get(f"NANOHOST_REQUIRE_{name}") == "1":
        pytest.fail(f"{name.capitalize()} is required here: {why}")
    pytest.skip(why)
