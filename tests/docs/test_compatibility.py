"""Each line of the table of formats and clients names a test that runs its example."""

import ast
import re

import pytest

from steerzo_edge.data.formats import FIELDS
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "compatibility.md").read_text()
LINES = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0][:30])
def test_a_line_names_what_is_honoured_what_is_refused_and_a_test(line: list[str]) -> None:
    name, honoured, refused, test = line
    assert name
    assert honoured
    assert ":" in refused or refused.startswith("as for")
    (path,) = re.fullmatch(r"`(tests/[\w/]+\.py)`", test).groups()  # type: ignore[union-attr]
    tree = ast.parse((ROOT / path).read_text())
    assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree.body)


def test_every_format_and_every_client_of_today_has_a_line() -> None:
    names = {word for line in LINES for word in re.findall(r"`([\w -]+)`", line[0])}
    assert names == {*FIELDS, "openai", "lm-eval", "curl", "langchain-openai", "llm", "steerzo push"}
