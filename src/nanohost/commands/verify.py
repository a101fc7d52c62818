"""Verify: every invariant of the data directory, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanohost.arguments import Arguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.show import Json, harmless, plain


class Verify(Arguments):
    """Nothing to say."""


async def _verify(context: CommandContext, arguments: Verify) -> Json:
    from nanohost.verify.checks import CHECKS, verify  # reads half of the host's modules: only when asked for

    findings = await verify(context.store, context.home, clock=context.clock, host_running=context.live is not None)
    return {"checks": len(CHECKS), "clean": not findings, "findings": plain(findings)}


def _render(result: Json) -> str:
    assert isinstance(result, Mapping)
    if result["clean"]:
        return f"clean: {result['checks']} checks"
    findings = result["findings"]
    assert isinstance(findings, Sequence)
    return "\n".join(line for finding in findings if isinstance(finding, Mapping) for line in _finding(finding))


def _finding(finding: Mapping[str, Json]) -> list[str]:
    rows = finding["rows"]
    assert isinstance(rows, Sequence)
    return [str(finding["check"]), *(f"  {harmless(str(row))}" for row in rows)]


def _is_bad(result: Json) -> bool:
    return isinstance(result, Mapping) and not result["clean"]


COMMANDS = (
    Command(
        words="verify",
        help="check every invariant of the data; exit code 1 and the offending rows when one does not hold",
        example="nanohost verify",
        arguments=Verify,
        run=_verify,
        render=_render,
        failed=_is_bad,
    ),
)
