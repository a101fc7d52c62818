"""Verify: check every invariant of the data directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanohost.arguments import CommandArguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.tables import Json, replace_control_chars, to_json


class VerifyArgs(CommandArguments):
    """Nothing to say."""


async def _run_checks(context: CommandContext, arguments: VerifyArgs) -> Json:
    from nanohost.verify.checks import CHECKS, verify  # imports half of the host's modules: only when needed

    findings = await verify(context.store, context.home, clock=context.clock, is_host_running=context.host is not None)
    return {"checks": len(CHECKS), "clean": not findings, "findings": to_json(findings)}


def _render(result: Json) -> str:
    assert isinstance(result, Mapping)
    if result["clean"]:
        return f"clean: {result['checks']} checks"
    findings = result["findings"]
    assert isinstance(findings, Sequence)
    return "\n".join(line for finding in findings if isinstance(finding, Mapping) for line in _finding_lines(finding))


def _finding_lines(finding: Mapping[str, Json]) -> list[str]:
    rows = finding["rows"]
    assert isinstance(rows, Sequence)
    return [str(finding["check"]), *(f"  {replace_control_chars(str(row))}" for row in rows)]


def _has_findings(result: Json) -> bool:
    return isinstance(result, Mapping) and not result["clean"]


COMMANDS = (
    Command(
        words="verify",
        help="check every invariant of the data; exit code 1 and the offending rows when one does not hold",
        example="nanohost verify",
        arguments=VerifyArgs,
        run=_run_checks,
        render=_render,
        is_failure=_has_findings,
    ),
)
