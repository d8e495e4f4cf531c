"""What the documents name is there: links, files, commands and options, settings, environment variables, routes."""

import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from typer.main import get_command

from server.app import create_app
from server.commands.app import app
from server.settings import Settings
from steerzo_edge.settings.profile import Profile, profile_names
from tests.docs.blocks import PAGES, ROOT, blocks, name_of, prose

TEXTS = {name_of(page): page.read_text(encoding="utf-8") for page in PAGES}
# Every word in backquotes, and every block.
SPANS = {name_of(page): [*re.findall(r"`([^`\n]+)`", prose(page))] for page in PAGES}
CODE = {name_of(page): "".join(block.text for block in blocks(page)) for page in PAGES}
TOP = "README.md", "docs/README.md"


def every_page(function: Any) -> Any:
    return pytest.mark.parametrize("page", TEXTS)(function)


def anchors(text: str) -> set[str]:
    """The ids that a page's headings have on the sites that render it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*TEXTS, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


def test_every_page_is_in_an_index() -> None:
    """`docs/README.md` links its pages and the indices of the folders below; an index links the pages beside it."""
    for page in TEXTS:
        if page in TOP:
            continue
        folder = Path(page).parent
        index = "docs/README.md" if page.endswith("/README.md") else f"{folder}/README.md"
        assert f"]({Path(page).relative_to(Path(index).parent)})" in TEXTS[index], page


@every_page
def test_files_exist(page: str) -> None:
    """Names with a folder, from the root or from where the sentence is about: `zo/noise.py`."""
    roots = ROOT, ROOT / "steerzo_edge", ROOT / "server", ROOT / "server" / "page", ROOT / "docs"
    for span in SPANS[page]:
        if re.fullmatch(
            r"(?:server|steerzo_edge|zo|model|data|tests|benchmarks|docs|tools|profiles)/[\w./]+", span
        ):
            assert any((root / span).exists() for root in roots), span
        elif re.fullmatch(r"test_\w+\.py", span):
            assert list((ROOT / "tests").rglob(span)), span


def command_lines() -> list[tuple[str, list[str]]]:
    """Every `steerzo ...` of the documents: its page, and its words."""
    found = []
    for page in TEXTS:
        joined = CODE[page].replace("\\\n", " ")
        lines = re.findall(r"(?:^|[|&;(] ?|exec steerzo )steerzo ((?:[a-z-]|--)[^|>&;#)\n]*)", joined, re.M)
        lines += [span.removeprefix("steerzo ") for span in SPANS[page] if span.startswith("steerzo ")]
        for line in lines:
            first = line.splitlines()[0]
            try:
                words = shlex.split(first)
            except ValueError:  # a quoted text continues in the next line
                words = first.split()
            found.append((page, words))
    return found


def test_commands_and_options_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = command_lines()
    assert len(lines) > 60
    for page, (name, *words) in lines:
        if name in ("--version", "--help", "steerzo"):
            continue
        assert name in commands, (page, name, words)
        command = commands[name]
        if hasattr(command, "commands") and words and not words[0].startswith("-"):
            assert words[0] in command.commands, (page, name, words)
            command = command.commands[words.pop(0)]
        known = {option for parameter in getattr(command, "params", ()) for option in parameter.opts}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= known | {"--help"}, (page, name, named - known)


def settings_of(model: Any, prefix: str = "") -> set[str]:
    """Dotted names of a profile's settings, those of every kind of a section."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(prefix + name)
        outer = (field.annotation, *get_args(field.annotation))
        for kind in (inner for one in outer for inner in (one, *get_args(one))):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= settings_of(kind, f"{prefix}{name}.")
    return found


@every_page
def test_settings_of_a_profile_exist(page: str) -> None:
    known = settings_of(Profile)
    assert {"method.pool", "subset.last_layers", "objective.option_mass", "rule.learning_rate"} <= known
    sections = {name.partition(".")[0] for name in known if "." in name}
    spans = [*SPANS[page], *re.findall(r'"([a-z]+\.[a-z_]+)":', TEXTS[page])]
    spans += re.findall(r"--set ([\w.]+)=", TEXTS[page])
    for span in spans:
        name = re.split(r"[:= ]", span)[0]
        section, dot, rest = name.partition(".")
        if dot and section in sections and re.fullmatch(r"[a-z_.]+", rest) and rest not in ("py", "md"):
            assert name in known, name


@pytest.fixture(scope="module")
def sources() -> str:
    """All code but these tests."""
    tops = ("server", "steerzo_edge", "tests", "tools", "benchmarks")
    paths = [path for top in tops for path in (ROOT / top).rglob("*.py") if path.parent.name != "docs"]
    others = (ROOT / "Makefile", ROOT / "Dockerfile", ROOT / "compose.yaml", ROOT / ".ci" / "run")
    return "".join(path.read_text() for path in (*paths, *others))


@every_page
def test_environment_variables_exist(page: str, sources: str) -> None:
    settings = {f"STEERZO_{name.upper()}" for name in Settings.model_fields}
    for name in set(re.findall(r"STEERZO_[A-Z_]*[A-Z]", TEXTS[page])) - settings:
        # Those of the base are put together from their names: see `server/settings.py`.
        assert name in sources or f'"{name.removeprefix("STEERZO_").lower()}"' in sources, name


@every_page
def test_settings_and_fields_exist(page: str, sources: str) -> None:
    """Names of several words: settings of the server, fields of rows, bodies and answers."""
    for span in SPANS[page]:
        if re.fullmatch(r"[a-z]+(?:_[a-z]+)+", span):
            assert re.search(rf"\b{span}\b", sources), span


@every_page
def test_profiles_exist(page: str) -> None:
    for name in re.findall(r'--profile (\S+)|"profile": "([^"]+)"', CODE[page]):
        profile = (name[0] or name[1]).strip("`")
        assert profile in (*profile_names(), "mine.yaml", "my.yaml"), profile


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    document = create_app(Settings(data_dir=tmp_path_factory.mktemp("routes"))).openapi()
    described = {
        (m.upper(), re.sub(r"\{\w+\}", "*", path)) for path, item in document["paths"].items() for m in item
    }
    return described | {("GET", "/docs"), ("GET", "/"), ("GET", "/openapi.json")}


@every_page
def test_routes_exist(page: str, routes: set[tuple[str, str]]) -> None:
    paths = {path for _, path in routes}
    for method, path in re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`?\s]*)", TEXTS[page]):
        assert (method, re.sub(r"\{\w+\}", "*", path)) in routes, (method, path)
    for path in re.findall(r"http://127\.0\.0\.1:8000(/[^\s\"'`?>)]*)", TEXTS[page]):
        plain = re.sub(r"(?<=/)(?:ds_|job_|ad_)?(?:\.\.\.|\$\w+|first)(?=/|$)", "*", path)
        plain = re.sub(r"(?<=/)(?:ds_|job_)\.\.\.", "*", plain)
        assert plain in paths or plain == "/v1", path
