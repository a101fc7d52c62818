"""What starts containers, and how much of the machine one gets."""

from __future__ import annotations

from typing import Annotated, ClassVar

from nanohost.runtime_files import runtime_names
from nanohost.section import AUTO, Section, extension, setting


class RuntimeSettings(Section):
    table: ClassVar = "host"

    runtime: Annotated[str, extension("runtime", runtime_names)] = setting(
        AUTO,
        place=10,
        title="What starts containers. `auto`: Docker if an engine answers, else bubblewrap, else a plain process.",
        wanted="auto, docker, bubblewrap, process or the name of a file in runtimes/",
    )
    allow_unsandboxed: bool = setting(
        False,
        place=130,
        title="Let an agent use its tools in a plain process, with nothing around it.",
        wanted="true or false",
    )


class DockerSettings(Section):
    """The image and the ceilings of one container. Memory in MiB, CPU in cores."""

    table: ClassVar = "docker"

    base_image: str | None = setting(
        None,
        place=410,
        title="What the agent's image is built on. Default: nanohost-base:bookworm if it is there, else Debian slim.",
        wanted="an image's name",
        min_length=1,
    )
    memory_mb: int = setting(
        2048, place=420, title="Memory of one container, in MiB.", wanted="a whole number of MiB, 128 or more", ge=128
    )
    cpus: float = setting(
        2.0, place=430, title="CPU of one container, in cores.", wanted="a number of cores, more than 0", gt=0
    )
    pids: int = setting(
        256, place=440, title="Processes and threads of one container.", wanted="a whole number, 16 or more", ge=16
    )

    @property
    def memory_bytes(self) -> int:
        return self.memory_mb * 1024**2
