"""A real pretrained model opens, in little memory, answers as recorded, and is trained across a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steerzo_edge.decoding.generate import generate
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.quantization import Quantization

pytestmark = pytest.mark.real
MIXED = (
    "Größe, señor, naïve café; Привет, мир! 你好，世界。 🙂🙃 👩\u200d👧 🇫🇷\n"  # noqa: RUF001
    "    def add(a, b):\n\treturn a + b  # 12 345 6\n\n\n x=1;y=22 0x1F  3.14e-10 It's 12:45, they've 1,234,567"
)
RESIDENT_MIB = 520
STEPS = 6


@pytest.fixture(scope="module")
def base(real_base_file: Path) -> Base:
    return load_base(str(real_base_file), device="cpu")


def test_answers(base: Base) -> None:
    """As recorded; the first token leads the second by 2.5 or more at every step, so rounding does not decide."""
    assert generate(base, "1, 2, 3, 4, 5, 6, 7, 8,", sampling=Sampling(10)).text == " 9, 10, 11"
    assert generate(base, "The capital of France is", sampling=Sampling(1)).text == " Paris"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["fp4", "int8"])
def test_every_storage_opens(real_base_file: Path, kind: Quantization) -> None:
    """nf4 is the other tests' base, and `test_llama_cpp.py` opens it unquantized."""
    found = load_base(str(real_base_file), quantization=kind, device="cpu")
    assert generate(found, "The capital of France is", sampling=Sampling(1)).text == " Paris"


def test_the_tokenizer_of_the_file(base: Base) -> None:
    """Digits are read one by one, as llama.cpp's `smollm` says; GPT-2 would merge them, and a blank with them."""
    tokenizer = base.tokenizer
    assert tokenizer.decode(tokenizer.encode(MIXED)) == MIXED
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a 123")) == ["a", "Ġ", "1", "2", "3"]
    assert tokenizer.encode("<|im_start|>user\nHi<|im_end|>")[0] == 1
    assert base.end_tokens == {2}
    assert "<|im_start|>user" in str(
        tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    )


@pytest.mark.long
def test_memory(real_base_file: Path) -> None:
    """At most imports, packed model, one tensor in float32, and 24 MiB of small buffers; afterwards less.

    Tokenizer, the model's code and kernels took 62 MiB besides imports and packed model. Machines differ: 100 are
    allowed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.real.measured", str(real_base_file)],
        capture_output=True, text=True, env=environment, timeout=300, check=True,
    )  # fmt: skip
    sizes = json.loads(done.stdout)
    assert sizes["after"] <= RESIDENT_MIB, sizes
    assert sizes["after"] <= sizes["imports"] + sizes["packed"] + 100, sizes
    assert sizes["peak"] <= sizes["imports"] + sizes["packed"] + sizes["largest"] + 24, sizes


@pytest.mark.long
def test_a_run_goes_on_after_a_kill(real_base_file: Path, tmp_path: Path) -> None:
    """And its adapter is exported for peft."""
    rows = [
        {"text": f"{'good' if i % 2 else 'bad'} film {i}", "label": "good" if i % 2 else "bad"} for i in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "options.json").write_text(json.dumps({"good": " great", "bad": " terrible"}))
    out = tmp_path / "run"
    settings = {
        "steps": STEPS, "subset.last_layers": 2, "method.pool": 2, "method.epsilon": 0.01,
        "rule.learning_rate": 0.01, "batch.examples": 4, "batch.max_tokens": 32, "evaluate.examples": 4,
    }  # fmt: skip
    train = [
        sys.executable, "-m", "server", "train", "--dataset", "rows.jsonl", "--out", str(out), "--json",
        "--base", str(real_base_file), "--template", "{text}. It was", "--options", "options.json",
        *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
    ]  # fmt: skip
    started = subprocess.Popen(train, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    deadline = time.monotonic() + 120
    lines = []
    for line in started.stdout:
        lines.append(json.loads(line))
        if sum("loss" in found and found.get("step", 0) >= 1 for found in lines) or time.monotonic() > deadline:
            break
    started.send_signal(signal.SIGKILL)
    started.communicate()
    assert not any("result" in line for line in lines)
    done = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    went_on = [json.loads(line) for line in done.stdout.splitlines()]
    assert min(line["step"] for line in went_on if "step" in line) > max(line.get("step", 0) for line in lines)
    exported = [sys.executable, "-m", "server", "export", str(out / "adapter"), "--format", "peft", "--out", "peft"]
    done = subprocess.run(exported, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(real_base_file)
