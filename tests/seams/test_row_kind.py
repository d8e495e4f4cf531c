"""A new kind of rows is one new file and one line: it is then recognized, shown, counted and batched."""

import json
from pathlib import Path

from tests.seams.copied import add_line, copied_package, run_in

# {"question": ..., "reply": ...}: an example of its own, learned as a sequence.
KIND = """
from dataclasses import dataclass
from typing import ClassVar

from steerzo_edge.data.fitting import Runs, fitted_targets
from steerzo_edge.data.kinds.kind import RowKind
from steerzo_edge.data.tokens import answer_tokens, end_tokens, prompt_tokens


@dataclass(frozen=True, slots=True)
class Exchange:
    kind: ClassVar[str] = "exchange"
    question: str
    reply: str

    @property
    def characters(self):
        return len(self.question) + len(self.reply)

    def row(self):
        return {"question": self.question, "reply": self.reply}


def read(row):
    return Exchange(row.text("question"), row.text("reply"))


def tokenize(dataset, tokenizer, max_tokens, labels):
    def runs(example):
        reply = answer_tokens(tokenizer, f" {example.reply}") + end_tokens(tokenizer)
        return Runs([(prompt_tokens(tokenizer, f"Q: {example.question}\\nA:"), False), (reply, True)])

    return fitted_targets(dataset, runs, max_tokens)


KIND = RowKind(name="exchange", fields=("question", "reply"), read=read, tokenize=tokenize)
"""

PROGRAM = """
import json, sys
from dataclasses import asdict
from pathlib import Path

import steerzo_edge
from steerzo_edge.data.batches import collate
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.preview import preview
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.statistics import statistics
from steerzo_edge.errors import DatasetError
from steerzo_edge.model.load import load_tokenizer

assert Path(steerzo_edge.__file__).parents[1] == Path(sys.argv[1])
tokenizer = load_tokenizer()
dataset = read_dataset(Path(sys.argv[2]).read_bytes())
try:
    read_rows([{"question": "Why?"}])
except DatasetError as error:
    faults = [str(fault) for fault in error.faults]
batch = collate(tokenize(dataset, tokenizer, 64), [0, 1])
told = {
    "format": dataset.format,
    "rows": dataset.rows(),
    "fingerprint": dataset.fingerprint,
    "faults": faults,
    "preview": [asdict(row) for row in preview(dataset, tokenizer, 64)],
    "facts": statistics(dataset, tokenizer, 64),
    "learned": tokenizer.decode(batch.targets.tolist()),
    "tokens": batch.tokens,
}
json.dump(told, sys.stdout)
"""

ROWS = [
    {"question": "What is the tallest mountain?", "reply": "Everest"},
    {"question": "Who wrote it?", "reply": "Homer"},
]


def test_a_new_kind_of_rows_is_one_file_and_one_line(tmp_path: Path) -> None:
    root = copied_package(tmp_path)
    kinds = root / "steerzo_edge/data/kinds"
    (kinds / "exchange.py").write_text(KIND)
    add_line(kinds / "__init__.py", after='"completion",', line='    "exchange",')

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    told = json.loads(run_in(root, PROGRAM, str(root), str(file)))

    assert (told["format"], told["rows"]) == ("exchange", ROWS)
    assert len(told["fingerprint"]) == 64
    assert len(told["faults"]) == 1
    assert told["faults"][0].startswith("line 1, field 'reply'")
    first = told["preview"][0]["segments"]
    assert first[0] == {"text": "Q: What is the tallest mountain?\nA:", "target": False}
    assert first[1]["target"]
    assert first[1]["text"].startswith(" Everest")
    facts = told["facts"]
    assert (facts["rows"], facts["format"], facts["duplicates"]) == (2, "exchange", 0)
    assert facts["tokens"]["targets"] == sum(row["targets"] for row in told["preview"])
    # Shorter rows come first in a batch.
    assert told["learned"].index("Homer") < told["learned"].index("Everest")
    assert told["tokens"] == facts["tokens"]["total"]
