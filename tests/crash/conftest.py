"""The container engine, for the runs that need one."""

from tests.support.container_engines import docker_engine

__all__ = ["docker_engine"]
