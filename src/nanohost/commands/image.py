"""Image: build the agent's container image ahead of its first use."""

from __future__ import annotations

import sys

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.command import Command
from nanohost.commands.context import OfflineContext
from nanohost.commands.tables import Json
from nanohost.runtimes.settings import DockerSettings

ABOUT = "the image that agents' containers are made of"


class BuildArgs(CommandArguments):
    base: str | None = Field(None, description="the image to build on (default: the setting, else Debian slim)")


async def _build(context: OfflineContext, arguments: BuildArgs) -> Json:
    from nanohost.runtimes.docker_image import ensure_image  # the engine's client, and only here

    base = arguments.base or context.settings.section(DockerSettings).base_image
    tag = await ensure_image(base_image=base, progress=lambda line: print(line, file=sys.stderr))  # noqa: T201
    return {"image": tag}


COMMANDS = (
    Command(
        words="image build",
        help="build the agent's container image if it is not there",
        example="nanohost image build",
        arguments=BuildArgs,
        run=_build,
        is_offline=True,
    ),
)
