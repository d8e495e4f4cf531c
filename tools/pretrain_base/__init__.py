"""A small base model from scratch, out of openly licensed text, and what it is worth in bits per byte.

    mix.yaml --> documents (clean, each once) --> held-out text, never trained on
                        |
                        +--> tokenizer --> token files --> rows of the mix --> training --> checkpoint
                                                                                               |
                                           base directory (weights, tokenizer, card, manifest) <+

README.md beside this file says how to run it. What it cannot know: whether texts of different corpora tell the
same story in other words; only equal documents are found.
"""
