"""Does every token of a base have an embedding?"""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steerzo_edge.errors import BaseModelError


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, name: str) -> None:
    """Refuses a base with tokens that have no row in the embedding: a text with one ends in an error.

    Args:
        tokenizer: Of the base.
        model: Its model; an embedding with more rows than there are tokens is usual.
        name: The base's name, for messages.

    Raises:
        BaseModelError: If there is such a token, or no token at all.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    tokens = tokenizer.get_vocab()
    if not tokens:
        raise BaseModelError(f"base model {name!r} has a tokenizer without tokens", hint="Fetch its files again.")
    beyond = sorted((index, token) for token, index in tokens.items() if index >= rows)
    if beyond:
        index, token = beyond[0]
        raise BaseModelError(
            f"base model {name!r} has a tokenizer with {len(tokens)} tokens and an embedding of {rows} rows: "
            f"{token!r} is token {index}",
            hint="Use the tokenizer of the same release, or remove the tokens that were added to it.",
        )
