"""The recipe of the base, the whole way: what comes out loads, its card, and the commands."""

import hashlib
import json
import math
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from steerzo_edge.assemble import assemble
from steerzo_edge.data.examples import Completion, Dataset
from steerzo_edge.errors import InputError
from steerzo_edge.model.load import load_base
from steerzo_edge.model.sources.bundled import DIRECTORY
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune
from tests.unit.pretraining.small import SETTINGS, VOCABULARY
from tools.pretrain_base.command import STOPPED, command_line, main
from tools.pretrain_base.mix import Mix
from tools.pretrain_base.recipe import Recipe, make_base
from tools.pretrain_base.tokenizer import CHAT_TEMPLATE

ROOT = Path(__file__).parents[3]


# The whole way


@pytest.fixture(scope="module")
def made(data: Path, mix: Mix, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    out = tmp_path_factory.mktemp("made")
    settings = replace(SETTINGS, steps=9, context=64, batch_tokens=256)
    recipe = Recipe(
        "a-test", mix, data, out, 0.2, VOCABULARY, settings, tokenizer_characters=20_000, evaluated_bytes=300
    )
    first = list(make_base(recipe, stopped_after(2)))
    assert [progress.step for progress in first] == [2]
    assert not (out / "base").exists()
    rest = list(make_base(recipe))
    assert [progress.step for progress in rest] == [3, 6, 9]
    assert all(0 < progress.bits_per_byte < 8.1 for progress in rest)
    return recipe


def stopped_after(steps: int) -> Any:
    asked = iter(range(100))
    return lambda: next(asked) >= steps


def test_the_base_loads_and_learns(made: Recipe) -> None:
    base = load_base(str(made.out / "base"), device="cpu")
    assert base.tokenizer.eos_token == "<|endoftext|>"
    assert base.model.generation_config.eos_token_id == [0, 4]
    profile = resolve(
        {
            "steps": 1,
            "batch": {"examples": 2, "max_tokens": 32},
            "subset": {"kind": "lora", "rank": 2},
            "method": {"kind": "two-point", "epsilon": 0.01},
            "rule": {"kind": "sgd", "learning_rate": 0.01},
        }
    )
    examples = tuple(Completion(f"Item {n}:", f" shelf {n}") for n in range(8))
    dataset = Dataset("completion", examples, tuple(range(1, 9)))
    data = tokenized(base.tokenizer, base.context_length, profile, dataset, None, seed=0)
    records = [
        record for record in finetune(assemble(base, profile, data, seed=0)) if isinstance(record, StepRecord)
    ]
    assert len(records) == 1
    assert records[0].loss is not None
    assert records[0].loss is not None
    assert math.isfinite(records[0].loss)


def test_the_card_says_everything(made: Recipe) -> None:
    base = made.out / "base"
    card = (base / "README.md").read_text()
    manifest = json.loads((base / "manifest.json").read_text())
    assert "license: cc-by-sa-4.0" in card
    for source in made.mix.sources:
        counts = manifest["prepared"]["sources"][source.name]
        (row,) = (line for line in card.splitlines() if line.startswith(f"| {source.name} | {source.credit}"))
        assert source.licence in row
        assert f"{counts['held_out_documents']:,} |" in row
        assert counts["held_out_documents"] > 0
        assert f"| {source.name} | " in card.split("## Bits per byte")[1]
        assert len(manifest["prepared"]["asked"]["sha256"][source.name]) == 64
    assert manifest["files"]["model.safetensors"] in card
    assert (base / "attribution" / "tales.tsv").read_text() == "tale\tauthor\n"
    assert "attribution/tales.tsv" in card
    assert manifest["run"]["steps"] == 9
    assert [line["step"] for line in manifest["run"]["history"]] == [2, 3, 6, 9]
    assert (base / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_a_finished_run_is_not_done_again_and_other_settings_are_refused(made: Recipe) -> None:
    before = (made.out / "base" / "model.safetensors").read_bytes()
    assert list(make_base(made)) == []
    assert (made.out / "base" / "model.safetensors").read_bytes() == before
    with pytest.raises(InputError, match="other texts or settings"):
        list(make_base(replace(made, vocabulary=VOCABULARY + 1)))
    with pytest.raises(InputError, match="other settings"):
        list(make_base(replace(made, settings=replace(made.settings, seed=1))))


# The commands


@pytest.mark.long
def test_a_run_that_is_told_to_stop_has_saved_where_it_is(data: Path, mix: Mix, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(mix.model_dump(mode="json")))
    options = {"out": tmp_path, "data": data, "mix": tmp_path / "mix.yaml", "vocabulary": 300, "budget-mb": 0.2}
    options |= {"context": 32, "batch-tokens": 128, "save-every": 1, "steps": 10**6}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "tools.pretrain_base", "train", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline()]
        assert said[0].startswith("step 1, steps 1e+06, loss")
        process.terminate()
        said += process.stderr.readlines()
    assert process.returncode == STOPPED
    assert said[-1].endswith("run the same command again to resume\n")
    last = said[-2]
    checkpoint = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)
    assert last.startswith(f"step {checkpoint['step']}, ")


def test_models_are_compared_on_the_same_bytes(made: Recipe, tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(made.mix.model_dump(mode="json")))
    where = ["--data", str(made.data), "--mix", str(tmp_path / "mix.yaml"), "--bytes", "300"]
    models = ["--model", str(made.out / "base"), "--model", str(tiny_path)]
    main(["evaluate", *where, *models, "--context", "64", "--json", str(tmp_path / "found.json")])
    ours, tiny = json.loads((tmp_path / "found.json").read_text())["models"]
    assert ours["bits_per_byte"].keys() == tiny["bits_per_byte"].keys() == made.mix.shares.keys()
    assert ours["all_bytes"] < tiny["all_bytes"]
    assert tiny["bytes_per_token"] == 1.0 < ours["bytes_per_token"]
    assert ours["documents_that_come_back"] == 1.0
    shipped = json.loads((made.out / "base" / "manifest.json").read_text())["evaluation"]["models"][0]
    assert shipped["sha256"] == ours["sha256"]


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--model", "bundled", "--data", str(tmp_path)])
    assert ended.value.code == 1
    assert "classic_books" in capsys.readouterr().out


def test_documented_commands_are_understood() -> None:
    for name in ("tools/pretrain_base/README.md", "docs/results/bits_per_byte.md"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        lines = re.findall(r"^    .*python -m tools\.pretrain_base (.*)$", text, re.M)
        assert lines
        for line in lines:
            command_line().parse_args(shlex.split(line))


def test_the_documents_repeat_what_was_measured() -> None:
    found = json.loads((ROOT / "docs" / "results" / "bits_per_byte.json").read_text())
    text = (ROOT / "docs" / "results" / "bits_per_byte.md").read_text()
    for corpus, size in found["corpora"].items():
        scores = " | ".join(f"{model['bits_per_byte'][corpus]:.2f}" for model in found["models"])
        assert f"| {corpus} | {size['bytes']:,} | {scores} |" in text
    shipped = hashlib.sha256((DIRECTORY / "model.safetensors").read_bytes()).hexdigest()
    assert found["models"][0]["sha256"] == shipped
