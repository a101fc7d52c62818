"""The cases of Markdown (see tests/support/cases.py): inputs that failed once, in every form that they name."""

from __future__ import annotations

import pytest

from nanohost.rendering import Form, split_message
from tests.rendering.checkers import check_part
from tests.rendering.readers import count_entities, read_as_person
from tests.rendering.test_any_text import NATIVE
from tests.support.cases import RENDERING, Case, cases_for

CASE_KEYS = frozenset({"input_repeat", "forms", "sees", "sees_each", "not", "reads", "limit"})
CASES = cases_for(RENDERING)
READ: list[Form] = [form for form in Form if form is not Form.MARKDOWN]
"""MARKDOWN is left as it was written."""


def forms_of(case: Case) -> list[Form]:
    return READ if case["forms"] == "all" else [Form(name) for name in case["forms"]]


def lines_of(case: Case, text: str) -> list[str]:
    return [text.replace("{n}", str(number)) for number in range(1, case["input_repeat"]["count"] + 1)]


def input_of(case: Case) -> str:
    return "\n".join(lines_of(case, case["input_repeat"]["line"])) if "input_repeat" in case else str(case["input"])


@pytest.mark.behaviour("DL-06", "DL-12")
@pytest.mark.parametrize(
    ("case", "form"),
    [pytest.param(case, form, id=f"{case['name']}-{form}") for case in CASES for form in forms_of(case)],
)
def test_an_input_that_once_failed_is_rendered_as_intended(case: Case, form: Form) -> None:
    entities = case.get("limit", {}).get("entities_per_message")
    parts = split_message(input_of(case), form, NATIVE[form])
    for part in parts:
        check_part(part, form, NATIVE[form])
        assert entities is None or count_entities(part.text) <= entities
    shown = "\n".join(read_as_person(part, form, entities=entities) for part in parts)
    wanted = [*case.get("sees", ()), *(lines_of(case, case["sees_each"]) if "sees_each" in case else ())]
    assert [words for words in wanted if words not in shown] == []
    assert [words for words in case.get("not", ()) if words in shown] == []
    if "reads" in case:  # the whole message, without spaces and invisible characters
        assert "".join(shown.replace("• ", "- ").replace("\u200b", "").split()) == case["reads"]
    assert all(word in " ".join(part.plain for part in parts) for word in case.get("sees", ()))
