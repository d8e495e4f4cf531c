"""The thread that owns the model, and how the device's time is divided between prompts and training."""
