"""What the documents say is so: their code runs, their commands and routes exist."""

import re
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from server.app import create_app
from server.commands.app import app
from server.settings import Settings
from steerzo_edge.data.formats import FIELDS
from steerzo_edge.data.tasks import TASKS
from steerzo_edge.errors import SteerzoError
from steerzo_edge.export.forms import FORMS
from steerzo_edge.export.peft_directory import OLDEST
from steerzo_edge.model.cuts import CUTS
from steerzo_edge.model.merged import ROUNDING_NATS
from steerzo_edge.settings.methods import MethodConfig
from steerzo_edge.settings.objectives import AnyObjectiveConfig
from steerzo_edge.settings.profile import load_profile
from steerzo_edge.settings.sections import SubsetConfig
from steerzo_edge.zo.scaling import Scaling
from steerzo_edge.zo.tuning import FOLLOWED, PAIRS, RADII, RUNGS
from tests.families import FAMILIES, FURTHER, REFUSED

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_python_blocks_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_commands_and_options_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^\s*`?(?:\$ )?steerzo ([^`\n|]+)|`steerzo ([^`\n]+)`", README, re.M)
    assert len(lines) >= 5
    for pair in lines:
        name, *words = next(filter(None, pair)).split()
        command = commands[name]
        if hasattr(command, "commands") and words:
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, (name, words)


def test_routes_exist(tmp_path: Path) -> None:
    routes = {
        (method.upper(), path)
        for path, methods in create_app(Settings(data_dir=tmp_path)).openapi()["paths"].items()
        for method in methods
    }
    named = re.findall(r"^\| `((?:GET|POST|PATCH|DELETE) [^|]+)\|", README, re.M)
    assert len(named) >= 7
    for cell in named:
        method, _, paths = cell.partition(" ")
        parts = [part.strip().strip("`") for part in paths.split(",")]
        for part in parts:
            *own, path = part.split(" ")
            method = own[0] if own else method
            whole = (
                path
                if path.startswith(
                    (
                        "/jobs",
                        "/datasets",
                        "/adapters",
                        "/estimate",
                        "/generate",
                        "/profiles",
                        "/healthz",
                        "/readyz",
                        "/metrics",
                        "/system",
                        "/example",
                    )
                )
                else f"/jobs/{{id}}{path}"
            )
            kind = whole.split("/")[1].removesuffix("s")
            own_id = f"{{{kind}_id}}"
            if path != "/docs":
                assert (method, whole.replace("{id}", own_id)) in routes, part


def test_formats_tasks_and_objectives_are_named() -> None:
    for fields in FIELDS.values():
        assert f"| {', '.join(f'`{field}`' for field in fields)} |" in README
    assert all(f"`{task}`" in README for task in TASKS)
    (union, *_) = get_args(AnyObjectiveConfig)
    kinds = [config.model_fields["kind"].default for config in get_args(union)]
    assert all(f"kind: {kind}" in README for kind in kinds if kind != "likelihood")


def test_every_error_has_a_code_of_its_own_and_a_hint() -> None:
    classes = [SteerzoError]
    for kind in classes:
        classes += kind.__subclasses__()
    codes = [kind.code for kind in classes]
    assert len(set(codes)) == len(codes)
    assert all(kind.hint.endswith((".", "}.", '"}}.')) for kind in classes), [k.hint for k in classes]
    tree = (ROOT / "steerzo_edge" / "errors.py").read_text().split('"""')[1]
    for kind in classes:
        if kind.__module__ == "steerzo_edge.errors":
            assert kind.__name__ in tree


def test_the_bundled_files_carry_their_licences() -> None:
    assets = ROOT / "steerzo_edge" / "assets"
    assert "CC0" in (assets / "intents" / "README.md").read_text()
    card = (assets / "base" / "README.md").read_text()
    assert "license: cc-by-sa-4.0" in card
    for target in re.findall(r"\]\((attribution/[^)]+)\)", card):
        assert (assets / "base" / target).exists()


def test_methods_scalings_subsets_and_verdicts_are_explained() -> None:
    methods = (ROOT / "docs" / "methods.md").read_text()
    for union in (MethodConfig, SubsetConfig):
        kinds = [config.model_fields["kind"].default for config in get_args(get_args(union)[0])]
        assert kinds
        assert all(f"`{kind}" in methods for kind in kinds)
    assert all(f"`{kind}`" in methods for kind in get_args(Scaling))
    assert all(f"`{verdict}`" in methods for verdict in ("diverged", "never-left-the-start", "plateau"))
    radius, steps, extra = PAIRS * 2 * len(RADII), FOLLOWED, 1 + len(RUNGS)
    assert f"{radius} + {steps} * (forwards a step + {extra})" in methods
    assert f"{radius + steps * (load_profile('cpu-demo').method.cost + extra)} for the default method" in methods


def test_every_tested_family_is_in_the_table_and_no_other() -> None:
    text = (ROOT / "docs" / "results" / "families.md").read_text()
    table = re.findall(r"^\| ([\w-]+) \| (yes|no) \|", text, re.M)
    expected = dict.fromkeys((*FAMILIES, *FURTHER), "yes") | dict.fromkeys(REFUSED, "no")
    assert dict(table) == expected


def test_the_families_are_listed_by_what_works() -> None:
    """Every family of the matrix is in the short table of the models' page, in the row of what it does."""
    matrix = (ROOT / "docs" / "results" / "families.md").read_text()
    cells = {
        row[0]: row[1:]
        for row in re.findall(r"^\| ([\w-]+) \| (yes|no) \|.* \| (yes|no)? ?\| (yes|no)? ?\|$", matrix, re.M)
    }
    rows = re.findall(
        r"^\| (?:trained|losses|refused)[^|]* \| (.+) \|$", (ROOT / "docs" / "models.md").read_text(), re.M
    )
    gguf, merged, checked, refused = ([plain(name) for name in row.split(",")] for row in rows)
    for family, (loads, is_merged, is_gguf) in cells.items():
        row = refused if loads == "no" else gguf if is_gguf == "yes" else merged if is_merged == "yes" else checked
        assert any(plain(family).startswith(name) for name in row), family


def plain(family: str) -> str:
    """A family's name as the matrix writes it, without the marks between its parts."""
    return re.sub(r"\W|_|shape|\(dense\)", "", family.lower()).replace("moe", "experts")


def test_exports_are_explained() -> None:
    text = (ROOT / "docs" / "export.md").read_text()
    assert all(f"--format {form} " in text for form in FORMS)
    assert OLDEST in text
    assert all(f"`{cut}`" in text for cut in CUTS)
    assert str(ROUNDING_NATS) in text
