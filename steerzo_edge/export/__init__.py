"""Exports adapters: PEFT directories for old versions of peft, merged models, GGUF files for llama.cpp."""

from steerzo_edge import model as model  # before anything imports `transformers`
