"""A greeting, and what the model says to it, by the real `openai` client."""

from typing import Any

from openai import OpenAI

GREETING: list[Any] = [{"role": "user", "content": "good"}]


def said(openai: OpenAI, model: str = "base", **parameters: Any) -> str:
    body: dict[str, Any] = {"messages": GREETING, "max_tokens": 12, "temperature": 0, **parameters}
    return str(openai.chat.completions.create(model=model, **body).choices[0].message.content)
