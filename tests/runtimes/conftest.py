"""Fixtures for the runtimes' tests."""

import pytest

from tests.support.container_engines import docker_engine, podman_engine, podman_image, python_image

__all__ = ["docker_engine", "podman_engine", "podman_image", "python_image"]

pytest.register_assert_rewrite("nanohost.testing.runtime_suite")
