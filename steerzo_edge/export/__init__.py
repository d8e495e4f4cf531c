"""Exports adapters: PEFT directories for old versions of peft, merged models, GGUF files for llama.cpp."""
