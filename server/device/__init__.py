"""The one thread that owns the model, and how its time is divided between prompts and training."""
