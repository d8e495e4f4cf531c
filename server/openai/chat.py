"""Chat completions with the base or an adapter."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.openai.answers import STREAM, Envelope, events, finish_of, fresh_seed, usage_of
from server.openai.chat_body import ChatBody
from server.openai.chat_chunks import ChatChunks, chat_logprobs
from server.openai.models import adapter_of
from server.openai.schemas import ChatChoice, ChatCompletion, ChatMessage, FunctionCall, ToolCall
from server.openai.tool_use import ToolUse, new_call_id, parts_of, tool_use
from server.services.generation import streamed_answers, whole_answers
from server.services.sampling_checks import check_sampling
from steerzo_edge.decoding.calls import Call
from steerzo_edge.decoding.generate import Generation
from steerzo_edge.decoding.spelling import Spelling

router = APIRouter()


@router.post(
    "/chat/completions", response_model=None, responses={200: {"model": ChatCompletion, "content": STREAM}}
)
async def create_chat_completion(body: ChatBody, request: Request, server: Server) -> Response:
    """Answers a conversation, in the tokenizer's chat template; whole, or streamed."""
    adapter = await run_in_threadpool(adapter_of, server, body.model)
    chat = body.chat
    use = await run_in_threadpool(tool_use, server, chat, body.tool_request)
    wanted = body.generation_requests(chat, adapter, fresh_seed(), use)
    await check_sampling(server, wanted[0].sampling, "response_format" if use is None else "tools")
    envelope = Envelope.new("chatcmpl", body.model)
    spelling = Spelling(server.tokenizer) if body.logprobs else None
    if body.stream:
        pieces = await streamed_answers(server, wanted)
        chunks = ChatChunks(envelope, len(wanted), use, spelling)
        return EventSourceResponse(events(chunks.of(pieces, with_usage=body.with_usage)))
    made = [answer.made for answer in await whole_answers(server, wanted, request)]
    choices = [_choice(index, one, use, spelling) for index, one in enumerate(made)]
    completion = ChatCompletion(
        id=envelope.id, created=envelope.created, model=body.model, choices=choices, usage=usage_of([made])
    )
    return JSONResponse(completion.model_dump())


def _choice(index: int, made: Generation, use: ToolUse | None, spelling: Spelling | None) -> ChatChoice:
    parts = parts_of(use, made.text)
    text = "".join(part for part in parts if isinstance(part, str))
    calls = [part for part in parts if isinstance(part, Call)]
    found = [
        ToolCall(id=new_call_id(), function=FunctionCall(name=call.name, arguments=call.arguments))
        for call in calls
    ]
    return ChatChoice(
        index=index,
        message=ChatMessage(content=text if text or not found else None, tool_calls=found or None),
        finish_reason=finish_of(made.finish_reason, calls),
        logprobs=chat_logprobs(made.logprobs, spelling),
    )
