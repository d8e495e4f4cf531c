"""The routes under /v1, as the `openai` client speaks to them."""
