"""Files stay short enough to be read in one go: at most 300 lines, and no function of the product past 60."""

import ast
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("steerzo_edge", "server", "benchmarks", "tools")
MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 60


def files(*folders: str) -> list[Path]:
    found = sorted(chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders))
    assert len(found) > 50
    return found


def test_no_file_is_longer() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files(*PRODUCT, "tests")}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_function_is_longer() -> None:
    long = []
    for path in files(*PRODUCT):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert long == []
