"""The runtime suite, run over the three runtimes that are shipped."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.port import Runtime
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.runtime_suite import STAND_IN, RuntimeBench, RuntimeSuite
from tests.support.need import missing

HERE = (sys.executable, *STAND_IN[1:])


class ProcessBench(RuntimeBench):
    def runtime(self, install: str) -> Runtime:
        return ProcessRuntime(install=install, command=HERE)


class BubblewrapBench(RuntimeBench):
    def runtime(self, install: str) -> Runtime:
        return BubblewrapRuntime(install=install, command=HERE)


@dataclass
class DockerBench(RuntimeBench):
    image: str

    def runtime(self, install: str) -> Runtime:
        return DockerRuntime(install=install, image=self.image, command=STAND_IN)


@pytest.mark.behaviour("SE-01", "SE-03", "SE-11")
class TestProcessRuntime(RuntimeSuite):
    @pytest.fixture
    def bench(self) -> RuntimeBench:
        return ProcessBench()


@pytest.mark.bubblewrap
@pytest.mark.behaviour("SE-01", "SE-03", "SE-10", "SE-11")
class TestBubblewrapRuntime(RuntimeSuite):
    @pytest.fixture
    def bench(self) -> RuntimeBench:
        try:
            BubblewrapRuntime(install="probe", command=HERE).check()
        except RuntimeUnavailable as error:
            missing("BUBBLEWRAP", str(error))
        return BubblewrapBench()


@pytest.mark.docker
@pytest.mark.behaviour("SE-01", "SE-03", "SE-10", "SE-11")
class TestDockerRuntime(RuntimeSuite):
    @pytest.fixture
    def bench(self, python_image: str) -> RuntimeBench:
        return DockerBench(python_image)
