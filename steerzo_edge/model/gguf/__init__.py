"""Reads GGUF, the file format of llama.cpp: header, config, tokenizer, tensors.

`sources/gguf.py` makes a base of them. Sources: llama.cpp's `docs/gguf.md`, and its package `gguf`.
"""
