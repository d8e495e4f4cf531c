"""A row of each benchmark task in the fields of its release, and what the model is asked, written out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steerzo_edge.data.examples import Completion, Dataset, Labelled, MultipleChoice


@dataclass(frozen=True)
class Case:
    """A row; for each example in it the prompt, what may follow, and which of it is right."""

    row: Mapping[str, Any]
    expected: tuple[tuple[str, tuple[str, ...], tuple[int, ...]], ...]
    metric: str = "accuracy"


CASES = {
    "sst2": Case(
        {"sentence": "a charming and often affecting journey . ", "label": 1, "idx": 3},
        (("a charming and often affecting journey . It was", (" terrible", " great"), (1,)),),
    ),
    "rte": Case(
        {"premise": "It rained in Oslo.", "hypothesis": "Oslo was dry.", "label": "not_entailment", "idx": 0},
        (
            (
                'It rained in Oslo.\nDoes this mean that "Oslo was dry." is true? Yes or No?\n',
                ("Yes", "No"),
                (1,),
            ),
        ),
    ),
    "cb": Case(
        {"premise": "She might come.", "hypothesis": "she comes", "label": "neutral", "idx": 0},
        (
            (
                'Suppose She might come. Can we infer that "she comes"? Yes, No, or Maybe?\n',
                ("Yes", "No", "Maybe"),
                (2,),
            ),
        ),
    ),
    "boolq": Case(
        {"passage": "Ice -- Ice is frozen water.", "question": "is ice water", "idx": 0, "label": True},
        (("Ice -- Ice is frozen water. is ice water?\n", ("No", "Yes"), (1,)),),
    ),
    "wsc": Case(
        {
            "text": "Ann thanked Sue because she had helped.",
            "target": {"span1_index": 0, "span1_text": "Ann", "span2_index": 4, "span2_text": "she"},
            "idx": 0,
            "label": False,
        },
        (
            (
                "Ann thanked Sue because she had helped.\n"
                'In the previous sentence, does the pronoun "she" refer to Ann? Yes or No?\n',
                ("No", "Yes"),
                (0,),
            ),
        ),
    ),
    "wic": Case(
        {
            "word": "bank",
            "sentence1": "The bank of the river.",
            "sentence2": "A bank lends money.",
            "start1": 4,
            "end1": 8,
            "start2": 2,
            "end2": 6,
            "version": 1.1,
            "idx": 0,
            "label": False,
        },
        (
            (
                'Does the word "bank" have the same meaning in these two sentences? Yes, No?\n'
                "The bank of the river.\nA bank lends money.\n",
                ("No", "Yes"),
                (0,),
            ),
        ),
    ),
    "multirc": Case(
        {
            "idx": 0,
            "version": 1.1,
            "passage": {
                "text": "Tom ate an apple and a pear.",
                "questions": [
                    {
                        "question": "What did Tom eat?",
                        "answers": [{"text": "An apple", "idx": 0, "label": 1}, {"text": "", "idx": 1, "label": 0}],
                        "idx": 0,
                    },
                    {"question": "Who ate?", "answers": [{"text": "Tim", "idx": 2, "label": 0}], "idx": 1},
                ],
            },
        },
        (
            (
                "Tom ate an apple and a pear.\nQuestion: What did Tom eat?\n"
                'I found this answer "An apple". Is that correct? Yes or No?\n',
                ("No", "Yes"),
                (1,),
            ),
            (
                "Tom ate an apple and a pear.\nQuestion: What did Tom eat?\n"
                'I found this answer "". Is that correct? Yes or No?\n',
                ("No", "Yes"),
                (0,),
            ),
            (
                "Tom ate an apple and a pear.\nQuestion: Who ate?\n"
                'I found this answer "Tim". Is that correct? Yes or No?\n',
                ("No", "Yes"),
                (0,),
            ),
        ),
        "f1",
    ),
    "copa": Case(
        {
            "premise": "The photograph faded.",
            "choice1": "It was fake.",
            "choice2": "I kept it in the sun.",
            "question": "cause",
            "label": 1,
            "idx": 345,
        },
        (("The photograph faded because", (" it was fake.", " I kept it in the sun."), (1,)),),
    ),
    "record": Case(
        {
            "source": "Daily mail",
            "passage": {
                "text": "Ann met Bob in Oslo. Ann left.\n@highlight\nBob stayed",
                "entities": [
                    {"start": 0, "end": 2},
                    {"start": 8, "end": 10},
                    {"start": 15, "end": 18},
                    {"start": 21, "end": 23},
                ],
            },
            "qas": [
                {
                    "query": "Later @placeholder wrote from home.",
                    "answers": [{"start": 0, "end": 2, "text": "Ann"}, {"start": 21, "end": 23, "text": "Ann"}],
                    "idx": 1,
                },
                {"query": "@placeholder's friends came.", "answers": [{"start": 8, "end": 10, "text": "Bob"}]},
            ],
            "idx": 7,
        },
        (
            (
                "Ann met Bob in Oslo. Ann left.\n@highlight\nBob stayed\nLater",
                (" Ann wrote from home.", " Bob wrote from home.", " Oslo wrote from home."),
                (0,),
            ),
            (
                "Ann met Bob in Oslo. Ann left.\n@highlight\nBob stayed\n",
                ("Ann's friends came.", "Bob's friends came.", "Oslo's friends came."),
                (1,),
            ),
        ),
        "exact_match",
    ),
    "squad": Case(
        {
            "id": "5733be28",
            "title": "Normans",
            "context": "The Normans came from Normandy, in France.",
            "question": "Where did they come from? ",
            "answers": [
                {"text": "Normandy", "answer_start": 22},
                {"text": "Normandy, in France", "answer_start": 22},
                {"text": "Normandy", "answer_start": 22},
            ],
        },
        (
            (
                "Title: Normans\nContext: The Normans came from Normandy, in France.\n"
                "Question: Where did they come from?\nAnswer:",
                ("Normandy", "Normandy, in France"),
                (0, 1),
            ),
        ),
        "f1",
    ),
    "drop": Case(
        {
            "passage": "Bears scored 7, Lions 10.",
            "question": "How many points were scored?",
            "answers_spans": {"spans": ["17", "seventeen"], "types": ["number", "span"]},
        },
        (
            (
                "Passage: Bears scored 7, Lions 10.\nQuestion: How many points were scored?\nAnswer:",
                ("17", "seventeen"),
                (0, 1),
            ),
        ),
        "f1",
    ),
}


def asked(dataset: Dataset) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Each example as the model meets it."""
    found: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
    for example in dataset.examples:
        if isinstance(example, Labelled):
            assert dataset.task is not None
            options = dataset.task.answers(dataset.labels)
            answer = list(options).index(example.label)
            found.append((dataset.task.prompt(example.text), tuple(options.values()), (answer,)))
        elif isinstance(example, MultipleChoice):
            found.append((example.prompt, example.choices, example.answers))
        else:
            assert isinstance(example, Completion)
            assert example.completion == f" {example.references[0]}"
            found.append((example.prompt, example.references, tuple(range(len(example.references)))))
    return found
