"""Every timeout in a test passes through nanohost.testing.time_limits, which scales it by the load of the machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanohost.testing.time_limits import FACTOR_VARIABLE, HANG_TIMEOUT_S, scale_timeout, scaled_timeout

ROOT = Path(__file__).parents[1]
WAITS = {"wait", "join", "result", "settimeout", "select", "wait_for_exit", "wait_for_first_check"}
"""Methods whose numbers are timeouts. The type of the object is not checked."""
OF_THE_HOST = {"answer_timeout_s", "answer_limit_s", "poll_grace_s", "ack_timeout_s"}
"""Timeouts of production code that run in real time: too short a one fails on a slow machine."""
NOT_A_TESTS = {
    "src/nanohost/testing/simulators/telegram.py": {"_get_updates"},
    "src/nanohost/testing/simulators/whatsapp.py": {"post"},
    "src/nanohost/testing/stub_runner.py": {"*"},
    "tests/hostile/program.py": {"*"},
}
"""A platform's own timeout that a channel knows, and those of stub programs."""
PAUSES = {"POLL_INTERVAL_S", "STATUS_INTERVAL_S"}
"""Pauses between two polls: the caller has a timeout beside them."""
SLEEPS = {"asyncio.sleep", "time.sleep"}


def functions(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """The nodes of a file, each with the innermost function that it is in."""

    def walk(node: ast.AST, within: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            name = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else within
            yield name, child
            yield from walk(child, name)

    return walk(ast.parse(path.read_text()), "")


def limits_of(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions in a node that are timeouts."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        yield from (one.value for one in node.keywords if one.arg == "timeout" or one.arg in OF_THE_HOST)
        if called == "asyncio.timeout":
            yield from node.args
        elif called == "asyncio.wait_for":
            yield from node.args[1:]
        elif called == "asyncio.to_thread" and ast.unparse(node.args[0]).rpartition(".")[2] in WAITS:
            yield from filter(is_number, node.args[1:])
        elif name in WAITS:
            yield from filter(is_number, node.args)
    elif isinstance(node, ast.BinOp) and ast.unparse(node.left) == "time.monotonic()":
        yield from (node.right,) if isinstance(node.op, ast.Add) else ()


def is_number(node: ast.expr) -> bool:
    """Whether it is a literal, or a constant with a literal."""
    parts = list(ast.walk(node))
    names = {one.id for one in parts if isinstance(one, ast.Name)} - PAUSES
    named = any(name.isupper() and name.endswith("_S") for name in names)
    return named or (isinstance(node, ast.Constant) and isinstance(node.value, (int, float)))


def is_heeded(limit: ast.expr) -> bool:
    """Whether it is scaled, or needs no scaling: None, zero, or a value that the caller has scaled."""
    match limit:
        case ast.Call(func=ast.Name(id="scaled_timeout")):
            return True
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return is_heeded(inner)
        case ast.IfExp(body=one, orelse=other):
            return is_heeded(one) and is_heeded(other)
        case ast.Constant(value=value):
            return not value
        case ast.Name(id=name):
            return name == "timeout"
    return False


def polls_by_count(node: ast.AST) -> bool:
    """A loop with a fixed number of polls and a pause between them: a timeout whose length depends on the machine's
    load."""
    if not (isinstance(node, ast.For) and ast.unparse(node.iter).startswith("range(")):
        return False
    within = [one for statement in node.body for one in ast.walk(statement)]
    sleeps = any(
        isinstance(one, ast.Call) and ast.unparse(one.func) in SLEEPS and ast.unparse(one.args[0]) != "0"
        for one in within
    )
    return sleeps and any(isinstance(one, (ast.Return, ast.Break)) for one in within)


def test_every_timeout_in_a_test_is_scaled_by_the_load() -> None:
    found = []
    for path in sorted([*ROOT.glob("tests/**/*.py"), *ROOT.glob("src/nanohost/testing/**/*.py")]):
        name = str(path.relative_to(ROOT))
        spared = NOT_A_TESTS.get(name, set())
        for function, node in functions(path):
            if spared & {function, "*"}:
                continue
            found += [f"{name}:{one.lineno}: {ast.unparse(one)}" for one in limits_of(node) if not is_heeded(one)]
            if isinstance(node, ast.For) and polls_by_count(node):
                found.append(f"{name}:{node.lineno}: {ast.unparse(node).splitlines()[0]}")
    assert found == [], (
        "write scaled_timeout(limit); of a loop: until a moment that is time.monotonic() + scaled_timeout(limit)"
    )


@pytest.mark.parametrize(
    ("load", "cores", "longer"),
    [(0.0, 2, 1), (2.0, 2, 1), (5.0, 2, 2.5), (5.0, 8, 1), (25.0, 2, 12.5)],
)
def test_a_timeout_grows_with_the_load_per_core(load: float, cores: int, longer: float) -> None:
    assert scale_timeout(10, "1", load=load, cores=cores) == 10 * longer
    assert scale_timeout(10, "3", load=load, cores=cores) == 30 * longer


@pytest.mark.parametrize("factor", ["", "two", "0", "-1", "nan", "inf"])
def test_a_factor_that_is_not_a_positive_number_is_refused(factor: str) -> None:
    with pytest.raises(ValueError, match=f"{FACTOR_VARIABLE} is '{factor}': set it to a number above zero"):
        scale_timeout(10, factor, load=0, cores=1)


def test_variable_and_load_are_read_when_a_timeout_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (8.0, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setenv(FACTOR_VARIABLE, "1.5")
    assert scaled_timeout(HANG_TIMEOUT_S) == HANG_TIMEOUT_S * 3
