"""A new source of bases is one file in `model/sources` and one line in its registry.

The toy reads a model directory from a zip file. It makes every linear layer itself, one weight at a time, in the
storage that the settings ask for: as a source with a format of its own does it.
"""

import zipfile
from pathlib import Path

import pytest

from tests.seams.copied import add_line, copied_package, run_in

ZIPPED = '''
"""Bases in a zip file."""

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from accelerate import init_empty_weights
from safetensors.torch import load
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steerzo_edge.errors import BaseModelError
from steerzo_edge.model.fingerprint import fingerprint
from steerzo_edge.model.layers import linear_layers
from steerzo_edge.model.sources.source import Content, Loading, Source, SourceKind


class Zipped:
    def __init__(self, name: str, revision: str | None) -> None:
        self.name = name
        self.revision = revision

    def settings(self) -> Mapping[str, Any]:
        with zipfile.ZipFile(self.name) as file:
            return json.loads(file.read("config.json"))

    def config(self) -> PretrainedConfig:
        return AutoConfig.for_model(**self.settings())

    def tokenizer(self) -> PreTrainedTokenizerBase:
        with zipfile.ZipFile(self.name) as file, tempfile.TemporaryDirectory() as directory:
            for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
                file.extract(name, directory)
            return AutoTokenizer.from_pretrained(directory)

    def model(self, loading: Loading) -> PreTrainedModel:
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(self.config(), dtype=loading.compute_dtype)
        linear = linear_layers(model)
        with zipfile.ZipFile(self.name) as file:
            for key, tensor in load(file.read("model.safetensors")).items():
                owner, _, part = key.rpartition(".")
                weight = tensor.to(loading.device, loading.compute_dtype)
                if owner in linear:
                    made = loading.storage.layer(weight, None, loading.compute_dtype)
                    model.set_submodule(owner, made)
                else:
                    setattr(model.get_submodule(owner), part, nn.Parameter(weight))
        return model.to(loading.device)

    def fingerprint(self, model: PreTrainedModel) -> str:
        return fingerprint(model)

    def content(self) -> Content | None:
        return Content(files=(Path(self.name),))

    def explained(self, error: BaseException, what: str) -> BaseModelError:
        return error if isinstance(error, BaseModelError) else BaseModelError(f"{what} {self.name!r}: {error}")


def _opened(name: str, revision: str | None) -> Source:
    return Zipped(name, revision)


SOURCE: Final = SourceKind(matches=lambda name: name.endswith(".zip"), opened=_opened)
'''

PROGRAM = """
import sys
from pathlib import Path
import torch
import steerzo_edge
from steerzo_edge.errors import BaseModelError
from steerzo_edge.estimate.anatomy import anatomy, load_config
from steerzo_edge.model.load import load_base, load_tokenizer
from steerzo_edge.model.packed.cache import PackedCache

assert steerzo_edge.__file__.startswith(sys.argv[1])
ids = torch.arange(5, 25).unsqueeze(0)
for quantization in ("none", "nf4", "int8"):
    zipped, plain = (
        load_base(path, quantization=quantization, compute_dtype=torch.bfloat16, device="cpu", revision="v1")
        for path in sys.argv[2:4]
    )
    assert (zipped.name, zipped.revision) == (sys.argv[2], "v1")
    assert zipped.fingerprint == plain.fingerprint, quantization
    with torch.inference_mode():
        expected = plain.model(input_ids=ids).logits
        assert torch.equal(zipped.model(input_ids=ids).logits, expected), quantization
    assert zipped.tokenizer.encode("good") == plain.tokenizer.encode("good")
cache = PackedCache(Path(sys.argv[1]) / "cache", 1 << 30)
for _ in range(2):
    found = load_base(sys.argv[2], device="cpu", cache=cache)
    assert (found.name, len(cache.kept())) == (sys.argv[2], 1)
assert cache.kept()[0].in_use
assert load_tokenizer(sys.argv[2]).encode("good") == plain.tokenizer.encode("good")
assert anatomy(load_config(sys.argv[2])) == anatomy(load_config(sys.argv[3]))
try:
    load_base("gone.zip")
except BaseModelError as error:
    assert "'gone.zip'" in str(error)
    print("done")
"""


@pytest.mark.parametrize("registered", [True, False])
def test_a_new_source_is_one_file_and_one_line(tiny_path: Path, tmp_path: Path, registered: bool) -> None:
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in tiny_path.iterdir():
            file.write(path, path.name)
    copy = copied_package(tmp_path)
    sources = copy / "steerzo_edge" / "model" / "sources"
    (sources / "zipped.py").write_text(ZIPPED)
    if registered:
        add_line(sources / "registry.py", '"bundled",', '    "zipped",')
        assert run_in(copy, PROGRAM, str(copy), str(archive), str(tiny_path)) == "done\n"
    else:
        with pytest.raises(AssertionError, match="cannot be loaded"):
            run_in(copy, PROGRAM, str(copy), str(archive), str(tiny_path))
