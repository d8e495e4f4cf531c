"""The routes under /v1, compatible with the `openai` client."""
