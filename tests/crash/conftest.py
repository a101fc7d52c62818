"""The engine for those runs that need one."""

from tests.support.engine import docker_engine

__all__ = ["docker_engine"]
