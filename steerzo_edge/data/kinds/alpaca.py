"""Rows with an instruction, an optional input and the output, as the Alpaca dataset was published.

    {"instruction": "Add the numbers.", "input": "1, 2", "output": "3"}

They become completions: the published prompt around instruction and input, and the output.
"""

from dataclasses import replace
from typing import Final

from steerzo_edge.data.examples import Completion
from steerzo_edge.data.fields import Fields
from steerzo_edge.data.kinds import completion
from steerzo_edge.data.kinds.kind import RowKind
from steerzo_edge.data.meanings import refuse_bad_examples

# The published prompts, and a line break, so that the answer begins a line of its own.
WITH_INPUT: Final = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT: Final = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def _read(row: Fields) -> Completion:
    instruction, given, output = row.text("instruction"), row.optional_text("input"), row.text("output")
    refuse_bad_examples(row)
    # Only the template's own braces are replaced: "{input}" inside an instruction stays as it is.
    before, after = (WITH_INPUT if given.strip() else WITHOUT_INPUT).split("{instruction}")
    return Completion(before + instruction + after.replace("{input}", given), output)


KIND: RowKind = replace(completion.KIND, name="alpaca", fields=("instruction", "output"), read=_read, lists=None)
