"""Blocks of code in the documents, and what their kinds mean.

```sh           run by a test, in the order of the page, in a directory of the page's own
```sh server    a server: started by the test, running until the end of the page
```python       run by a test, in its place among the others
```console      commands that no test can run; `UNRUN` in `test_commands.py` says why
anything else   is shown, not run: output, rows, settings

Blocks that are set apart by four blanks are of the older pages. If they hold commands, `UNRUN` names their page.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^```(.*)$")
_COMMAND = re.compile(
    r"(?:[A-Z_]+=\S* )*(?:steerzo|make|curl|docker|pip|python3?|pytest|git|printf|apt-get|sudo|export) "
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Args:
        page: Where it stands, relative to the repository: "docs/data.md".
        line: Of its first line of code, from 1.
        kind: The words after the opening fence; "indented" for blocks without one.
        text: The code, with a line break at its end.
    """

    page: str
    line: int
    kind: str
    text: str

    @property
    def holds_commands(self) -> bool:
        """Whether a reader could paste it into a shell."""
        return any(_COMMAND.match(line) for line in self.text.splitlines())

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    """A page as a test names it: its path from the repository's root."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence:
            end = next(i for i in range(number + 1, len(lines)) if lines[i] == "```")
            yield Block(name_of(page), number + 2, fence[1].strip(), _joined(lines[number + 1 : end]))
            number = end + 1
        elif lines[number].startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            end = next((i for i in range(number, len(lines)) if not lines[i].startswith("    ")), len(lines))
            yield Block(name_of(page), number + 1, "indented", _joined([line[4:] for line in lines[number:end]]))
            number = end
        else:
            number += 1


def prose(page: Path) -> str:
    """A page without its blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"^ {4}.*$", "", text, flags=re.M)


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
