"""Adapters in other forms: PEFT directories for old versions, merged models, GGUF files for llama.cpp."""
