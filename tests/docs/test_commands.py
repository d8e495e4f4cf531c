"""The commands of the documents are run, page by page; those that are not are listed here with the reason."""

import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, Block, blocks, name_of
from tests.docs.shell import Reader
from tests.forked import forks
from tests.server.process import ServerProcess

RUN = ("sh", "sh server", "python")
# README's `python server` block needs rows of its own: `tests/server/test_openai.py` runs it.
ELSEWHERE = ("python server",)
SHOWN = ("text", "ini", "nginx", "json", "yaml")
# By page, and by the first words of the block; "" is the whole page.
UNRUN = {
    "README.md": {
        "make demo": "minutes; `tests/server/test_main_job.py` runs the same job",
        "docker build": "needs an engine for containers; `tests/image` runs what is built",
        "steerzo train --task": "needs the tasks' files; `tests/server/test_benchmark_tasks.py`",
    },
    "docs/adapters.md": {"": "needs adapters of the reader's own; `tests/server/test_adapters.py`"},
    "docs/benchmarks.md": {"": "minutes to hours each; `tests/unit/test_benchmarks.py` runs them small"},
    "docs/deploy.md": {
        "docker build": "needs an engine for containers; `tests/image` runs what is built",
        "make image": "needs an engine for containers, and minutes",
        "docker compose": "needs an engine for containers; nothing runs these two files",
        "docker logs": "needs the container from above; `tests/image` reads the key from the log",
        "docker stop": "needs the container from above; `tests/image` stops one and starts it again",
    },
    "docs/estimate.md": {"": "fetches the configuration of a base; `tests/unit/test_estimate.py`"},
    "docs/export.md": {"": "needs an adapter of the reader's own, and other packages; `tests/unit/test_export.py`"},
    "docs/install.md": {
        "git clone": "changes the environment it runs in; the image is built by these lines",
        "pip install": "changes the environment it runs in",
        "docker build": "needs an engine for containers; `tests/image`",
    },
    "docs/data.md": {"pip install": "installs a package and fetches rows; `tests/unit/test_hub_rows.py`"},
    "docs/jobs.md": {"STEERZO_WEBHOOK": "needs a receiver; `tests/server/test_webhooks.py` has one"},
    "docs/models.md": {"pip install": "installs packages"},
    "docs/openai.md": {"lm-eval run": "needs lm-eval, which is installed apart; `tests/lm_eval` runs it"},
    "docs/results/bits_per_byte.md": {"": "needs other models; `tests/unit/pretraining` parses the command"},
    "docs/results/cost_curves.md": {"": "minutes"},
    "docs/results/exact_learning.md": {"": "needs a real base; minutes a run"},
    "docs/results/memory_real.md": {"": "needs a real base and peft; minutes a row of the table"},
    "docs/results/equal_steps.md": {"": "hours; `tests/unit/test_quality.py` runs it small"},
    "docs/results/estimate_error.md": {"": "minutes, and real bases; `tests/unit/test_estimate_error.py`"},
    "docs/results/memory.md": {"": "minutes; `tests/unit/test_benchmarks.py` runs it small"},
    "docs/results/packed.md": {"": "needs a real base; `tests/real/test_packed.py` compares the same"},
    "docs/results/serving.md": {"": "minutes"},
    "docs/results/serving_real.md": {"": "needs real bases and llama.cpp; `tests/unit/test_serving_benchmark.py`"},
    "docs/results/step_time.md": {"": "minutes; `tests/unit/test_benchmarks.py` runs it small"},
    "docs/results/subsets.md": {"": "hours"},
    "docs/results/survival.md": {"": "minutes; `tests/server/test_survival.py` has a few of its kills"},
    "docs/results/tasks.md": {"": "an hour"},
    "docs/security.md": {"": "`docs/deploy.md` has the same commands, and they are run there"},
    "docs/trackers.md": {"": "needs packages that are installed apart; `tests/trackers` runs the same"},
    "docs/serving.md": {"steerzo serve": "the second line fetches a base; `docs/first-job.md` starts a server"},
}
# Training without a server ends earlier here than on the page; no later line reads how well it went.
SHORTER = {"docs/first-job.md": ("--out runs/first --set steps=60", "--out runs/first --set steps=6")}
LONG = ("docs/first-job.md",)  # it trains
TYPED = [page for page in PAGES if any(block.kind in RUN for block in blocks(page))]


def reason(block: Block) -> str | None:
    """Why a block is not run; None if nothing is said about it."""
    told = UNRUN.get(block.page, {})
    return next((why for words, why in told.items() if block.text.lstrip("# ").startswith(words)), None)


def marks_of(page: Path) -> tuple[pytest.MarkDecorator, ...]:
    """Whether a page's commands take long."""
    return (pytest.mark.long,) if page in [ROOT / name for name in LONG] else ()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the bundled base, for the pages that say one is running."""
    with ServerProcess("bundled", tmp_path_factory.mktemp("documents") / "data") as process:
        process.start()
        yield process
        assert process.stop() == 0, process.log.read_text()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a `steerzo` that is forked from a process that has imported it."""
    path = tmp_path_factory.mktemp("commands")
    forks().command(path / "steerzo", "from server.commands.app import main; main()")
    return path


@pytest.mark.skipif(not shutil.which("curl"), reason="the documents' commands use curl")
@pytest.mark.parametrize("page", [pytest.param(page, marks=marks_of(page), id=name_of(page)) for page in TYPED])
def test_commands_in_the_documents_work(
    page: Path, commands: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found = [block for block in blocks(page) if block.kind in RUN]
    if page == ROOT / "README.md":
        found = [block for block in found if block.kind != "python"]  # run by `tests/unit/test_docs.py`
    port, data = free_port(), tmp_path / "data"
    talks = any("127.0.0.1:8000" in block.text for block in found)
    if talks and not any(block.kind == "sh server" for block in found):
        port = request.getfixturevalue("served").port
    directory = tmp_path / "reader"
    directory.mkdir()
    with Reader(directory, commands, port, data) as reader:
        for block in found:
            reader.run(replace(block, text=block.text.replace(*SHORTER.get(block.page, ("", "")))))


def test_every_block_is_run_or_marked_as_not_run() -> None:
    kinds = {*RUN, *ELSEWHERE, *SHOWN, "console", "indented"}
    for page in PAGES:
        for block in blocks(page):
            assert block.kind in kinds, f"{block}: {block.kind!r} is no kind of block"
            if block.kind == "console" or (block.kind == "indented" and block.holds_commands):
                assert reason(block), f"{block} is not run, and UNRUN does not say why:\n{block.text}"
            elif block.kind in SHOWN:
                assert not block.holds_commands, f"{block} is shown as output and holds commands"


def test_what_is_shortened_is_on_its_page() -> None:
    for page, (words, _) in SHORTER.items():
        assert any(words in block.text for block in blocks(ROOT / page)), page


def test_every_mark_belongs_to_a_block() -> None:
    unrun = [block for page in PAGES for block in blocks(page) if block.kind in ("console", "indented")]
    for page, told in UNRUN.items():
        for words in told:
            assert any(block.page == page and block.text.lstrip("# ").startswith(words) for block in unrun), (
                page,
                words,
            )


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
