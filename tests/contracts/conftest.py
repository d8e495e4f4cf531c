"""The matrix of families and promises, printed when their tests are over."""

from collections.abc import Callable

import pytest

FAMILY, PROMISE, MEANING = "family", "promise", "meaning"
LOADS = "loads"


@pytest.fixture
def noted(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Says which cell of the matrix a test fills, and with which word if it passes."""

    def note(family: str, promise: str, meaning: str = "yes") -> None:
        record_property(FAMILY, family)
        record_property(PROMISE, promise)
        record_property(MEANING, meaning)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the matrix, if there were any of its tests."""
    cells: dict[tuple[str, str], str] = {}
    for outcome in ("passed", "skipped", "failed"):
        for report in terminalreporter.getreports(outcome):
            # A file that is skipped as a whole leaves a report without any.
            told = {key: str(value) for key, value in getattr(report, "user_properties", ())}
            if FAMILY not in told:
                continue
            word = told[MEANING] if outcome == "passed" else outcome
            cells[told[FAMILY], told[PROMISE]] = word
            if told[PROMISE] != LOADS and outcome == "passed":
                cells[told[FAMILY], LOADS] = "yes"
    if cells:
        terminalreporter.section("families")
        for line in table(cells):
            terminalreporter.write_line(line)


def table(cells: dict[tuple[str, str], str]) -> list[str]:
    """The lines of a Markdown table."""
    families, promises = (list(dict.fromkeys(cell[place] for cell in cells)) for place in (0, 1))
    promises.sort(key=lambda promise: promise != LOADS)
    rows = [["family", *promises], ["---"] * (len(promises) + 1)]
    rows += [[family, *(cells.get((family, promise), "") for promise in promises)] for family in families]
    return [f"| {' | '.join(row)} |" for row in rows]
