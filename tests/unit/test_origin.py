"""Bases that could run code are refused in words, and nothing of them runs."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from steerzo_edge.data.examples import Message
from steerzo_edge.data.tokens import chat_text
from steerzo_edge.errors import BaseModelError, InputError
from steerzo_edge.model.load import load_base, load_tokenizer
from tests.conftest import byte_tokenizer

CODE = "import pathlib\npathlib.Path({mark!r}).write_text('ran')\nclass Mine: ...\n"


@pytest.fixture
def base(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "base"))


def changed(path: Path, **settings: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def load(base: Path) -> None:
    load_base(str(base), quantization="none", compute_dtype=torch.float32, device="cpu")


@pytest.mark.parametrize("model_type", ["llama", "mine"])
def test_a_base_with_code_of_its_own_is_refused(base: Path, tmp_path: Path, model_type: str) -> None:
    (base / "mine.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    kinds = {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}
    changed(base / "config.json", model_type=model_type, auto_map=kinds)
    with pytest.raises(BaseModelError, match=r"auto_map in config\.json"):
        load(base)
    assert not (tmp_path / "mark").exists()


def test_a_tokenizer_with_code_of_its_own_is_refused(base: Path, tmp_path: Path) -> None:
    (base / "mine.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    changed(base / "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.Mine", None]})
    for attempt in (lambda: load(base), lambda: load_tokenizer(str(base))):
        with pytest.raises(BaseModelError, match=r"auto_map in tokenizer_config\.json"):
            attempt()
    assert not (tmp_path / "mark").exists()


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.mark, "ran")


def test_pickled_weights_are_refused_and_not_read(base: Path, tmp_path: Path) -> None:
    for path in base.glob("*.safetensors"):
        path.unlink()
    (base / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    with pytest.raises(BaseModelError, match=r"pytorch_model\.bin only"):
        load(base)
    assert not (tmp_path / "mark").exists()
    pickle.loads((base / "pytorch_model.bin").read_bytes())  # the trap is a trap
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
        "{{ messages.append(1) }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_hostile_chat_template_stays_in_its_sandbox(template: str, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template.replace("MARK", str(tmp_path / "mark"))
    with pytest.raises(InputError, match="chat template refuses"):
        chat_text(tokenizer, [Message("user", "hello")], answer_next=True)
    assert not (tmp_path / "mark").exists()


def test_user_text_is_not_rendered_as_a_template(tmp_path: Path) -> None:
    text = chat_text(byte_tokenizer(), [Message("user", "{{ 7 * 7 }}{% raw %}")], answer_next=True)
    assert "{{ 7 * 7 }}{% raw %}" in text
