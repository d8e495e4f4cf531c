"""All routes under /v1."""

from fastapi import APIRouter

from server.openai import chat, completions, embeddings, files, fine_tuning, models, responses
from server.openai.schemas import ErrorBody
from server.openai_errors import PREFIX

router = APIRouter(
    prefix=PREFIX, tags=["openai"], responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
)
for noun in (models, files, fine_tuning, chat, completions, responses, embeddings):
    router.include_router(noun.router)
