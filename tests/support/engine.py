"""The Docker engine for tests: there, or the test is skipped; with NANOHOST_REQUIRE_DOCKER=1 it fails instead.

Import the fixtures into a conftest.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import NoReturn

import pytest
from docker import APIClient

from nanohost.errors import NanohostError
from nanohost.runtimes.docker_engine import reach_engine
from nanohost.runtimes.docker_image import LOCAL_BASE, ensure_image


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[APIClient]:
    """A client of the engine."""
    try:
        client = reach_engine()
    except NanohostError as error:
        missing(str(error))
    yield client
    client.close()


@pytest.fixture(scope="session")
def python_image(docker_engine: APIClient) -> str:
    """An image with a python3 on its path: the local base, or else the agent image itself."""
    if docker_engine.images(name=LOCAL_BASE):
        return LOCAL_BASE
    return asyncio.run(ensure_image(progress=print))


def missing(why: str) -> NoReturn:
    """End the test: skipped, or failed where Docker is required."""
    if os.environ.get("NANOHOST_REQUIRE_DOCKER") == "1":
        pytest.fail(f"Docker is required here: {why}")
    pytest.skip(why)
