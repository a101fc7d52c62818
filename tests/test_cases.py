"""Every case of tests/cases/ is run by a test, and a case without one is an error."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.channels.discord import test_cases as discord
from tests.channels.slack import test_cases as slack
from tests.channels.telegram import test_cases as telegram
from tests.channels.whatsapp import test_cases as whatsapp
from tests.channels.whatsapp_linked import test_cases as whatsapp_linked
from tests.rendering import test_cases as rendering
from tests.support.cases import (
    CASE_KEYS,
    DEDICATED_TEST,
    PLATFORMS,
    RENDERING,
    LocatedCase,
    cases_for,
    cases_named_by_tests,
    load_cases,
)

RUNNERS: dict[str, ModuleType] = {
    "telegram": telegram,
    "discord": discord,
    "slack": slack,
    "whatsapp": whatsapp,
    "whatsapp_linked": whatsapp_linked,
    RENDERING: rendering,
}


def test_every_platform_has_a_test_of_cases() -> None:
    assert RUNNERS.keys() == {*PLATFORMS, RENDERING}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_test_of_cases_gets_all_cases_for_it(runner: str) -> None:
    assert cases_for(runner) == RUNNERS[runner].CASES
    tests = [value for name, value in vars(RUNNERS[runner]).items() if name.startswith("test_")]
    given = [mark.args[1] for test in tests for mark in test.pytestmark if mark.name == "parametrize"]
    run = [one if isinstance(one, dict) else one.values[0] for some in given for one in some]
    assert [case for case in cases_for(runner) if case not in run] == []


@pytest.mark.parametrize("one", load_cases(), ids=str)
def test_every_case_is_run_by_a_test(one: LocatedCase) -> None:
    runner = one.runner
    known = CASE_KEYS if runner == DEDICATED_TEST else CASE_KEYS | RUNNERS[runner].CASE_KEYS
    assert one.case.keys() - known == set(), "the case says something that its test does not look at"


def test_case_names_are_unique_on_a_platform() -> None:
    names = [(one.platform, one.case["name"]) for one in load_cases()]
    assert sorted({str(name) for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_added_file_of_cases_is_run(platform: str, tmp_path: Path) -> None:
    added = [{"platform": platform, "name": "a", "input": {}}, {"name": "b", "forms": "all", "input": "x"}]
    (tmp_path / "added.json").write_text(json.dumps(added))
    (tmp_path / f"{platform}.json").write_text(json.dumps([{"name": "c", "input": {}}]))
    assert {case["name"] for case in cases_for(platform, tmp_path)} == {"a", "c"}
    assert cases_for(RENDERING, tmp_path) == [added[1]]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (
            {"name": "a", "platform": "matrix", "input": {}},
            "'matrix'; there are tests of telegram, discord",
        ),
        ({"name": "a", "platform": ["discord", "slack"], "input": {}}, "there are tests of telegram, discord"),
        ({"name": "a", "platform": "discord"}, "no test runs it"),
        ({"name": "a", "input": {}}, "no test runs it"),
        ({"name": "a", "then": "all is well"}, "no test is marked"),
        ({"name": "a", "platform": "discord", "input": {}, "then": "all is well"}, "no test is marked"),
    ],
)
def test_a_case_without_a_test_is_an_error(case: dict[str, object], says: str, tmp_path: Path) -> None:
    (tmp_path / "added.json").write_text(json.dumps([case]))
    [one] = load_cases(tmp_path)
    with pytest.raises(ValueError, match=says):
        assert one.runner
    assert [runner for runner in RUNNERS if cases_for(runner, tmp_path)] == []


def test_tests_name_only_existing_cases_with_distinct_names() -> None:
    cases = [one.case["name"] for one in load_cases() if "then" in one.case]
    assert sorted(cases_named_by_tests().keys() - set(cases)) == []
    assert sorted({name for name in cases if cases.count(name) > 1}) == []
