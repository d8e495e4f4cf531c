"""Embeddings of texts: the mean of their last hidden states, or that of their last token, of length 1."""

import base64
from array import array
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.openai.models import adapter_of
from server.openai.parameters import ModelName, Tag, refused
from server.openai.prompts import Prompts, prompts_of
from server.services.scoring import echoed_prompts, embedded_texts
from steerzo_edge.config import Config

router = APIRouter()


class EmbeddingBody(Config):
    """Texts to embed."""

    model: ModelName
    input: Prompts = Field(description="A text or its tokens, or several.")
    encoding_format: Literal["float", "base64"] | None = Field(
        "float", description="Numbers, or the bytes of 32-bit floats, the least byte first, in base64."
    )
    dimensions: Annotated[None, refused("embeddings are not shortened; leave it out")] = None
    user: Tag | None = Field(None, description="Ignored.")
    pooling: Literal["mean", "last"] = Field(
        "mean",
        description="This server's own: the mean of the last hidden states of all tokens, or the last token's.",
    )


class EmbeddingObject(Config):
    """The embedding of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Config):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Config):
    """The embeddings of all texts, in their order."""

    object: Literal["list"] = "list"
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


@router.post("/embeddings", response_model=None, responses={200: {"model": EmbeddingList}})
async def create_embeddings(body: EmbeddingBody, request: Request, server: Server) -> Response:
    """A vector of length 1 for each text, from the model's last hidden states."""
    adapter = await run_in_threadpool(adapter_of, server, body.model)
    texts = [one.tokens for one in await echoed_prompts(server, prompts_of(body.input), 0)]
    vectors = await embedded_texts(server, texts, adapter, body.pooling, request)
    return JSONResponse(await run_in_threadpool(_reply, body, vectors, sum(map(len, texts))))


def _reply(body: EmbeddingBody, vectors: list[tuple[float, ...]], tokens: int) -> dict[str, Any]:
    written = map(_packed if body.encoding_format == "base64" else list, vectors)
    data = [EmbeddingObject(index=index, embedding=embedding) for index, embedding in enumerate(written)]
    usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    return EmbeddingList(data=data, model=body.model, usage=usage).model_dump()


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()
