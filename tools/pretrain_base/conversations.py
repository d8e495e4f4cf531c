"""Documents in the chat format: dialogues become turns, titles and instructions become questions.

No conversation is made up: every word of an answer is a word of its document. Only what asks for a titled text
("Tell me a story: ...") was written for this mix.
"""

import re
from itertools import pairwise

from tools.pretrain_base.documents import Document

Turn = dict[str, str]
_SPEAKER = re.compile(r"^(User|Assistant|A|B): ", re.M)


def turns(document: Document) -> list[Turn] | None:
    """A document as messages of a chat template, beginning with the user, or None if it stays as it is.

    Args:
        document: Whose source says what share of its documents is put into the chat format.
    """
    source = document.source
    if document.draw("chat") >= source.chat_share:
        return None
    if source.form == "titled":
        title, _, text = document.text.partition("\n\n")
        return _said(source.ask.format(title=title), text.strip()) if "\n" not in title and text.strip() else None
    if source.form == "instructions":
        return _said(*document.turns)
    return _dialogue(document.text)


def _said(question: str, answer: str) -> list[Turn]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _dialogue(text: str) -> list[Turn] | None:
    before, *parts = _SPEAKER.split(text)
    if before or len(parts) < 4:
        return None
    speakers, said = parts[::2], [line.strip() for line in parts[1::2]]
    if len(set(speakers)) != 2 or any(a == b for a, b in pairwise(speakers)):
        return None
    roles = ("user", "assistant") if speakers[0] != "Assistant" else ("assistant", "user")
    return [{"role": roles[index % 2], "content": line} for index, line in enumerate(said)]
