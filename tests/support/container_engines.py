"""The engines for tests: there, or the test is skipped; with NANOHOST_REQUIRE_DOCKER=1 or _PODMAN=1 it fails instead.

Podman is looked for where CONTAINER_HOST says, or at Debian's own socket. Import the fixtures into a conftest.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from docker import APIClient

from nanohost.errors import NanohostError
from nanohost.runtimes.docker_engine import connect_engine
from nanohost.runtimes.docker_image import LOCAL_BASE, ensure_image
from tests.support.requirements import skip_or_fail

PODMAN_SOCKET = "unix:///run/podman/podman.sock"


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[APIClient]:
    """A client of the engine."""
    try:
        client = connect_engine()
    except NanohostError as error:
        skip_or_fail("DOCKER", str(error))
    yield client
    client.close()


@pytest.fixture(scope="session")
def python_image(docker_engine: APIClient) -> str:
    """An image with a python3 on its path: the local base, or else the agent image itself."""
    if docker_engine.images(name=LOCAL_BASE):
        return LOCAL_BASE
    return asyncio.run(ensure_image(progress=print))


@pytest.fixture
def podman_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[APIClient]:
    """A client of Podman's service, which answers for Docker as long as the test runs."""
    monkeypatch.setenv("DOCKER_HOST", os.environ.get("CONTAINER_HOST", PODMAN_SOCKET))
    try:
        client = connect_engine()
    except NanohostError as error:
        skip_or_fail("PODMAN", str(error))
    yield client
    client.close()


@pytest.fixture
def podman_image(podman_engine: APIClient) -> str:
    """An image with a python3 on its path."""
    if not podman_engine.images(name=LOCAL_BASE):
        skip_or_fail("PODMAN", f"Podman does not have the image {LOCAL_BASE}")
    return LOCAL_BASE
