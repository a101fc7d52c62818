"""Defines the settings of the runtime, and the resource limits of a container."""

from __future__ import annotations

from typing import Annotated, ClassVar

from nanohost.config.section import AUTO, Section, extension_name, setting
from nanohost.extensions.runtimes import runtime_names


class RuntimeSettings(Section):
    table: ClassVar = "host"

    runtime: Annotated[str, extension_name("runtime", runtime_names)] = setting(
        AUTO,
        order=10,
        title="What starts containers. `auto`: Docker if an engine answers, else bubblewrap, else a plain process.",
        expected="auto, docker, bubblewrap, process or the name of a file in runtimes/",
    )
    allow_unsandboxed: bool = setting(
        False,
        order=130,
        title="Let an agent use its tools in a plain process, with nothing around it.",
        expected="true or false",
    )


class DockerSettings(Section):
    """The image and the resource limits of one container. Memory in MiB, CPU in cores."""

    table: ClassVar = "docker"

    base_image: str | None = setting(
        None,
        order=410,
        title="What the agent's image is built on. Default: nanohost-base:bookworm if it is there, else Debian slim.",
        expected="an image's name",
        min_length=1,
    )
    memory_mb: int = setting(
        2048, order=420, title="Memory of one container, in MiB.", expected="a whole number of MiB, 128 or more", ge=128
    )
    cpus: float = setting(
        2.0, order=430, title="CPU of one container, in cores.", expected="a number of cores, more than 0", gt=0
    )
    pids: int = setting(
        256, order=440, title="Processes and threads of one container.", expected="a whole number, 16 or more", ge=16
    )

    @property
    def memory_bytes(self) -> int:
        return self.memory_mb * 1024**2
