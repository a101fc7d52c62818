"""The runtime suite, run over the three runtimes that are shipped."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.process import ProcessRuntime
from nanohost.runtimes.runtime_api import Runtime
from nanohost.testing.runtime_suite import STUB_COMMAND, RuntimeHarness, RuntimeSuite
from tests.support.requirements import skip_or_fail

HERE = (sys.executable, *STUB_COMMAND[1:])


class ProcessBench(RuntimeHarness):
    def runtime(self, install: str) -> Runtime:
        return ProcessRuntime(install=install, command=HERE)


class BubblewrapBench(RuntimeHarness):
    def runtime(self, install: str) -> Runtime:
        return BubblewrapRuntime(install=install, command=HERE)


@dataclass
class DockerBench(RuntimeHarness):
    image: str

    def runtime(self, install: str) -> Runtime:
        return DockerRuntime(install=install, image=self.image, command=STUB_COMMAND)


@pytest.mark.behaviour("SE-01", "SE-03", "SE-11")
class TestProcessRuntime(RuntimeSuite):
    @pytest.fixture
    def harness(self) -> RuntimeHarness:
        return ProcessBench()


@pytest.mark.bubblewrap
@pytest.mark.behaviour("SE-01", "SE-03", "SE-10", "SE-11")
class TestBubblewrapRuntime(RuntimeSuite):
    @pytest.fixture
    def harness(self) -> RuntimeHarness:
        try:
            BubblewrapRuntime(install="probe", command=HERE).check()
        except RuntimeUnavailable as error:
            skip_or_fail("BUBBLEWRAP", str(error))
        return BubblewrapBench()


@pytest.mark.docker
@pytest.mark.behaviour("SE-01", "SE-03", "SE-10", "SE-11")
class TestDockerRuntime(RuntimeSuite):
    @pytest.fixture
    def harness(self, python_image: str) -> RuntimeHarness:
        return DockerBench(python_image)
