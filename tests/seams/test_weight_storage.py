"""A new storage of weights is one file in `model/weights` and one line in `model/quantization.py`.

The toy stores weights as 16-bit codes with one scale for each out-feature, which `transformers` does not know: it
converts the layers after they are loaded.
"""

from pathlib import Path

from tests.seams.copied import add_line, copied_package, run_in

INT16 = '''
"""int16: 16-bit codes with a float32 scale for each out-feature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steerzo_edge.model.weights.storage import FrozenLinear, Storage


class Codes(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        scales = weight.float().abs().amax(1).clamp(min=1e-9) / 32767
        self.register_buffer("scales", scales)
        self.register_buffer("codes", (weight.float() / scales[:, None]).round().to(torch.int16))
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)


class Int16Linear:
    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module

    @property
    def bias(self) -> Tensor | None:
        return self._module.bias

    def batch_matmul(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight(x.dtype), self.bias)

    def decode_matmul(self, x: Tensor) -> Tensor:
        return self.batch_matmul(x)

    def weight(self, dtype: torch.dtype) -> Tensor:
        return (self._module.codes * self._module.scales[:, None]).to(dtype)

    def forget_packed(self) -> None:
        pass


@dataclass(frozen=True)
class Int16:
    kind: str = "int16"
    quantized: bool = True
    can_quantize: bool = True
    linear: type[FrozenLinear] = Int16Linear
    bytes_per_output: int = 4
    packages: tuple[str, ...] = ()
    install: str = ""
    can_restore: bool = True

    def bytes_per_weight(self, itemsize: int) -> float:
        return 2.0

    def is_released(self, quantization_config: Mapping[str, Any]) -> bool:
        return False

    def matches(self, module: nn.Module) -> bool:
        return isinstance(module, Codes)

    def layer(self, weight: Tensor, bias: Tensor | None, compute_dtype: torch.dtype) -> nn.Module:
        return Codes(weight, None if bias is None else bias.to(compute_dtype))

    def restored(self, tensors: Mapping[str, Tensor], compute_dtype: torch.dtype) -> nn.Module:
        codes, scales = tensors["codes"], tensors["scales"]
        if scales.shape != codes.shape[:1]:
            raise ValueError("scales that do not fit")
        made = Codes(torch.zeros_like(codes, device="meta"), tensors.get("bias"))
        made.codes, made.scales = codes, scales
        return made

    def load_options(self, compute_dtype: torch.dtype) -> Mapping[str, Any]:
        return {}

    def finish(self, model: PreTrainedModel, layers: Mapping[str, nn.Module], compute_dtype: torch.dtype) -> None:
        for name, module in layers.items():
            if not self.matches(module):
                model.set_submodule(name, self.layer(module.weight, module.bias, compute_dtype))


STORAGE: Final[Storage] = Int16()
'''

PROGRAM = """
import sys
from pathlib import Path
import torch
import steerzo_edge
from steerzo_edge.decoding.generate import generate
from steerzo_edge.estimate.anatomy import anatomy
from steerzo_edge.model.load import load_base
from steerzo_edge.model.packed.cache import PackedCache
from steerzo_edge.settings.profile import resolve

assert steerzo_edge.__file__.startswith(sys.argv[1])
assert resolve({}, {"model.quantization": "int16"}).model.quantization == "int16"
base, plain = (
    load_base(sys.argv[2], quantization=quantization, compute_dtype=torch.float32, device="cpu")
    for quantization in ("int16", "none")
)
ids = torch.arange(5, 25).unsqueeze(0)
with torch.inference_mode():
    expected = plain.model(input_ids=ids).logits
    torch.testing.assert_close(base.model(input_ids=ids).logits, expected, rtol=0, atol=1e-2)
for name, layer in base.bank.layers.items():
    weight = plain.bank.layers[name].weight_like_base(torch.float32)
    assert layer.base.codes.dtype == torch.int16
    torch.testing.assert_close(layer.weight_like_base(torch.float32), weight, rtol=0, atol=1e-3)
assert generate(base, "Once").text == generate(plain, "Once").text
sizes = anatomy(base.model.config)
linear = sum(part.inputs * part.outputs for part in sizes.projections)
assert sizes.weight_bytes("none", 4) - sizes.weight_bytes("int16", 4) == 2 * linear - 4 * sum(
    part.outputs for part in sizes.projections
)
cache = PackedCache(Path(sys.argv[1]) / "cache", 1 << 30)
for _ in range(2):
    kept = load_base(sys.argv[2], quantization="int16", compute_dtype=torch.float32, device="cpu", cache=cache)
assert cache.kept()[0].in_use
assert kept.fingerprint == base.fingerprint
with torch.inference_mode():
    assert torch.equal(kept.model(input_ids=ids).logits, base.model(input_ids=ids).logits)
print("done")
"""


def test_a_new_storage_is_one_file_and_one_line(tiny_path: Path, tmp_path: Path) -> None:
    copy = copied_package(tmp_path)
    model = copy / "steerzo_edge" / "model"
    (model / "weights" / "int16.py").write_text(INT16)
    add_line(model / "quantization.py", '"none",', '    "int16",')
    assert run_in(copy, PROGRAM, str(copy), str(tiny_path)) == "done\n"
