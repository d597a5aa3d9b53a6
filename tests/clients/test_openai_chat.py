"""Chat completions as the OpenAI SDK for Python uses them."""

import asyncio
import json
import time

import openai
from pydantic import BaseModel

from support import CLIENT_KEY, HELLO, MAGPIE, TEXT

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


def test_chat(client, upstream):
    reply = client.chat.completions.create(model="mock/ok", messages=HELLO, temperature=0)
    assert reply.choices[0].message.content == TEXT
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (11, 8)
    assert reply._request_id.startswith("req_")
    assert upstream.last().json == {"model": "ok", "messages": HELLO, "temperature": 0}
    assert upstream.last().target == "/v1/chat/completions"


def test_several_choices(client):
    reply = client.chat.completions.create(model="mock/ok", messages=HELLO, n=3)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]


def test_large_reply(client):
    """One that is passed on as it comes, rather than read whole."""
    raw = client.chat.completions.with_raw_response.create(
        model="mock/big:3000000", messages=HELLO
    )
    assert raw.headers["content-length"] == "3000000"
    assert set(raw.parse().choices[0].message.content) == {"a"}


def test_stream_comes_chunk_by_chunk(client, upstream):
    stream = client.chat.completions.create(model="mock/events:6:100", messages=HELLO, stream=True)
    times, texts = [], []
    for chunk in stream:
        if chunk.choices[0].delta.content:
            texts.append(chunk.choices[0].delta.content)
            times.append(time.monotonic())
            if len(texts) < 6:
                # The provider has not gone on while this one was held back.
                assert upstream.last().events_sent <= len(texts) + 2
    assert texts == [f"w{number} " for number in range(1, 7)]
    assert chunk.choices[0].finish_reason == "stop"
    assert times[-1] - times[0] > 0.4


def test_usage_of_a_stream_comes_only_when_asked_for(client, upstream):
    def chunks(**options):
        return list(
            client.chat.completions.create(
                model="mock/ok", messages=HELLO, stream=True, **options
            )
        )

    plain = chunks()
    assert upstream.last().json["stream_options"] == {"include_usage": True}
    assert all(chunk.choices and chunk.usage is None for chunk in plain)
    refused = chunks(stream_options={"include_usage": False})
    assert all(chunk.choices and chunk.usage is None for chunk in refused)
    *others, last = chunks(stream_options={"include_usage": True})
    assert last.choices == [] and last.usage.total_tokens == 19
    assert all(chunk.choices and chunk.usage is None for chunk in others)
    assert [len(plain), len(refused)] == [len(others)] * 2


def test_usage_in_every_event_stays(client):
    stream = client.chat.completions.create(model="mock/usage-every", messages=HELLO, stream=True)
    counts = [chunk.usage.completion_tokens for chunk in stream if chunk.usage]
    assert counts == sorted(counts) and counts[-1] == 8


def test_tools(client):
    messages = list(HELLO)
    reply = client.chat.completions.create(
        model="mock/tools", messages=messages, tools=[WEATHER], tool_choice="auto"
    )
    assert reply.choices[0].finish_reason == "tool_calls"
    call = reply.choices[0].message.tool_calls[0]
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city", "days"}
    messages.append(reply.choices[0].message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "rain"})
    reply = client.chat.completions.create(
        model="mock/tools", messages=messages, tools=[WEATHER]
    )
    assert reply.choices[0].message.content == TEXT


def test_tool_calls_in_a_stream(client):
    stream = client.chat.completions.create(
        model="mock/tools", messages=HELLO, tools=[WEATHER], stream=True
    )
    ids, names, arguments, finish = "", "", "", None
    for chunk in stream:
        finish = chunk.choices[0].finish_reason or finish
        for call in chunk.choices[0].delta.tool_calls or []:
            ids += call.id or ""
            names += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (ids, names, finish) == ("call_scripted", "weather", "tool_calls")
    assert set(json.loads(arguments)) == {"city", "days"}


def test_the_accumulating_stream_helper(client):
    with client.chat.completions.stream(
        model="mock/tools", messages=HELLO, tools=[WEATHER]
    ) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert set(json.loads(call.function.arguments)) == {"city", "days"}


def test_structured_output(client, upstream):
    class Step(BaseModel):
        text: str
        number: int

    class Plan(BaseModel):
        title: str
        steps: list[Step]
        done: bool

    reply = client.chat.completions.parse(model="mock/json", messages=HELLO, response_format=Plan)
    assert isinstance(reply.choices[0].message.parsed, Plan)
    assert upstream.last().json["response_format"]["json_schema"]["strict"] is True


def test_reasoning_passes(client):
    reply = client.chat.completions.create(model="mock/reasoning", messages=HELLO)
    assert reply.choices[0].message.reasoning_content == "Let me think."
    stream = client.chat.completions.create(model="mock/reasoning", messages=HELLO, stream=True)
    deltas = [chunk.choices[0].delta for chunk in stream]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thought == "Let me think."
    assert "".join(delta.content or "" for delta in deltas) == TEXT


def test_unusual_but_valid_streams(client):
    odd = ["comments", "crlf", "no-space", "no-done", "drip:1", "close-after", "truncated-body"]
    for model in odd:
        stream = client.chat.completions.create(
            model=f"mock/{model}", messages=HELLO, stream=True
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == ("drip drop" if model == "drip:1" else TEXT), model
        assert chunks[-1].choices[0].finish_reason == "stop", model


def test_wide_characters_split_between_packets(client):
    whole = client.chat.completions.create(model="mock/split:1", messages=HELLO)
    stream = client.chat.completions.create(model="mock/split:1", messages=HELLO, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content
    assert "中文" in text and "👩‍👩‍👧" in text and "\ufffd" not in text


def test_async(upstream):
    async def talk():
        async with openai.AsyncOpenAI(
            base_url=f"{MAGPIE}/v1", api_key=CLIENT_KEY, max_retries=0
        ) as client:

            async def whole():
                reply = await client.chat.completions.create(model="mock/ok", messages=HELLO)
                return reply.choices[0].message.content

            async def streamed(count):
                stream = await client.chat.completions.create(
                    model=f"mock/events:{count}:10", messages=HELLO, stream=True
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            return await asyncio.gather(
                *(streamed(count) for count in range(1, 21)), *(whole() for _ in range(20))
            )

    answers = asyncio.run(talk())
    for count, answer in enumerate(answers[:20], 1):
        assert answer == "".join(f"w{number} " for number in range(1, count + 1))
    assert answers[20:] == [TEXT] * 20
    assert len(upstream.received()) == 40
