"""Records what llama.cpp makes of a file and of texts, for the tests that compare this engine with it."""
