"""Writes what ships with a base: its card, its manifest, and the attribution lists."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

from steerzo_edge.storage.files import write_bytes, write_json
from tools.pretrain_base.mix import Mix, Source, file_hash

Facts = dict[str, Any]
_SHIPPED = ("model.safetensors", "tokenizer.json")


def licence_of(mix: Mix) -> str:
    """The licence of the weights: share-alike if one of the texts is."""
    return "cc-by-sa-4.0" if any("BY-SA" in source.licence for source in mix.sources) else "cc-by-4.0"


def write_card(directory: Path, mix: Mix, data: Path, name: str, facts: Facts) -> None:
    """Writes `README.md`, `manifest.json` and `attribution/` into a base's directory.

    Args:
        directory: With weights and tokenizer in place.
        mix: What it was trained on.
        data: Where the mix's files are.
        name: Of the model.
        facts: "prepared" (as `tokens.prepare` gives it), "shape", "settings", "run" and "evaluation".

    Raises:
        OSError: If the disk is full or fails.
        InputError: If a list of authors cannot be read.
    """
    for source in mix.sources:
        if source.attribution is not None:
            file_hash(data / source.attribution)  # a list that is missing is named
            target = directory / _attribution(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(data / source.attribution, target)
    hashes = {
        str(path.relative_to(directory)): file_hash(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("README.md", "manifest.json")
    }
    write_json(directory / "manifest.json", facts | {"name": name, "licence": licence_of(mix), "files": hashes})
    write_bytes(directory / "README.md", _card(mix, name, facts, hashes).encode())


def _attribution(source: Source) -> str:
    return f"attribution/{source.name}.tsv"


def _card(mix: Mix, name: str, facts: Facts, hashes: dict[str, str]) -> str:
    return "\n".join(
        [
            "---",
            "language: en",
            f"license: {licence_of(mix)}",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "---",
            "",
            f"# {name}",
            "",
            "A small English causal language model with a chat format, made with `tools/pretrain_base`: for trying",
            "out and testing fine-tuning, not for answers that anyone relies on. It knows little of the world,",
            "makes things up, and repeats period attitudes of old books.",
            "",
            *_table(["", ""], _properties(facts, hashes)),
            "",
            "## What it was trained on, and thanks to whom",
            "",
            *_table(
                ["corpus", "thanks to", "licence", "share", "passes", "documents", "in chat format", "held out"],
                [_source(source, mix, facts) for source in mix.sources],
            ),
            "",
            *_words(mix),
            "",
            "## Bits per byte of held-out text",
            "",
            *_evaluation(facts["evaluation"]),
            "",
        ]
    )


def _properties(facts: Facts, hashes: dict[str, str]) -> list[list[str]]:
    shape, settings, run = facts["shape"], facts["settings"], facts["run"]
    schedule = settings["schedule"]
    return [
        [
            "parameters",
            f"{shape['parameters']:,} (embedding and output head {_tied(shape)}), bf16, {shape['mb']} MB",
        ],
        [
            "architecture",
            f"Llama: hidden {shape['width']}, feed-forward {shape['feed_forward']}, {shape['layers']} layers, "
            f"heads of {shape['head']}, context {settings['context']}",
        ],
        [
            "tokenizer",
            f"byte-level BPE, {shape['vocabulary']} pieces, every digit its own piece; `<\\|endoftext\\|>` begins "
            "every document; `<\\|user\\|> <\\|assistant\\|> <\\|system\\|> <\\|end\\|>` for chat",
        ],
        [
            "training",
            f"from scratch, {run['tokens']:,} tokens in {run['steps']:,} steps of {run['tokens_a_step']:,}, AdamW "
            f"({settings['learning_rate']:g}, weight decay {settings['weight_decay']:g}, gradients clipped at "
            f"{settings['clip']:g}), {schedule['kind']} schedule with {schedule['warmup']} steps of warm-up, "
            f"{run['precision']}, {timedelta(seconds=round(run['seconds']))} on {run['machine']}; last loss "
            f"{run['loss']:.3f} nats a token",
        ],
        ["files", ", ".join(f"`{file}` sha256 `{hashes[file]}`" for file in _SHIPPED)],
        [
            "everything else",
            "[manifest.json](manifest.json): hashes of the texts, mix, settings, history, evaluation",
        ],
    ]


def _tied(shape: Facts) -> str:
    return "tied" if shape["tied"] else "not tied"


def _source(source: Source, mix: Mix, facts: Facts) -> list[str]:
    counts = facts["prepared"]["sources"][source.name]
    credit = source.credit
    if source.attribution is not None:
        credit += f" ([list]({_attribution(source)}))"
    return [
        source.name,
        credit,
        source.licence,
        f"{mix.shares[source.name]:.1%}",
        f"{facts['run']['passes'][source.name]:.2f}",
        f"{counts['documents']:,}",
        f"{counts['in_chat_format']:,}",
        f"{counts['held_out_documents']:,}",
    ]


def _words(mix: Mix) -> list[str]:
    words = [
        "Changes to the texts: lines with fewer than two letters or digits, documents of fewer than 20 characters",
        "and repeated documents dropped. Held-out documents are chosen by the hash of their text and were not",
        "trained on; near copies of them (other levels of the same article, chapters of the same book) may have",
        "been. The chat format holds dialogues as they are, questions with their answers, and titles with the text",
        "below them; the words that ask for a title's text were written for this mix.",
    ]
    if any(source.form == "instructions" for source in mix.sources):
        names = ", ".join(source.name for source in mix.sources if source.form == "instructions")
        words.append(f"Training rows of {names} were seen: fine-tuning on them measures nothing new.")
    if licence_of(mix) == "cc-by-sa-4.0":
        words.append("Some of the corpora are share-alike, so the weights are offered under CC BY-SA 4.0.")
    return words


def _evaluation(found: Facts) -> list[str]:
    (own,) = found["models"]
    rows = [
        [name, f"{size['bytes']:,}", f"{own['bits_per_byte'][name]:.3f}"] for name, size in found["corpora"].items()
    ]
    return [
        f"Windows of {own['context_tokens']} tokens, each token scored once with at least half a window before it",
        "(but for a document's first), float32.",
        "",
        *_table(["corpus", "bytes", "bits per byte"], rows),
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
