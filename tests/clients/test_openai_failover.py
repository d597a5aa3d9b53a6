"""A model with several targets, the first of which is dead, busy, silent or breaks off: the SDK gets
the answer of another one, an exception that it documents, and never a part of an answer taken for the
whole."""

import time

import openai
import pytest

from support import HELLO, TEXT

# Models whose first target fails before it says anything.
SPARED = ["spare-dead", "spare-busy", "spare-throttled", "spare-silent", "spare-hidden"]


def chat(client, model, **options):
    return client.chat.completions.create(model=model, messages=HELLO, **options)


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("model", SPARED)
def test_the_next_target_answers(client, model):
    # Twice, so that the first one is also left out once it is known: three retries a second are
    # always there.
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO)
        assert raw.headers["x-magpie-target"] == "mock/ok"
        assert raw.headers["x-magpie-attempts"] in ("1", "2")
        assert raw.parse().choices[0].message.content == TEXT
        assert raw.parse().choices[0].finish_reason == "stop"


@pytest.mark.parametrize("model", [*SPARED, "spare-cut"])
def test_the_next_target_streams(client, model):
    chunks = list(chat(client, model, stream=True, stream_options={"include_usage": True}))
    assert text_of(chunks) == TEXT
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert finishes[-1] == "stop" and not any(finishes[:-1])
    assert chunks[-1].usage.completion_tokens == 8
    assert len({chunk.id for chunk in chunks}) == 1, "chunks of one answer"


def test_an_embedding_of_the_next_target(client):
    vector = client.embeddings.create(model="spare-dead", input="a").data[0].embedding
    assert vector == client.embeddings.create(model="mock/ok", input="a").data[0].embedding


def test_half_an_answer_is_not_continued_by_another_target(client, upstream):
    chunks = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in chat(client, "spare-late", stream=True):
            chunks.append(chunk)
    assert caught.value.code == "provider_truncated"
    assert text_of(chunks) == "w1 w2 w3 "
    assert not any(choice.finish_reason for chunk in chunks for choice in chunk.choices)
    assert [received.json["model"] for received in upstream.received()] == ["cut:3:spare"]


def test_half_an_answer_is_gone_on_with_where_the_model_says_so(client, upstream):
    chunks = list(chat(client, "resumed", stream=True, stream_options={"include_usage": True}))
    assert text_of(chunks) == "".join(f"w{number} " for number in range(1, 9))
    assert len({chunk.id for chunk in chunks}) == 1, "chunks of one answer"
    assert len({chunk.model for chunk in chunks}) == 1
    roles = [choice.delta.role for chunk in chunks for choice in chunk.choices]
    assert roles.count("assistant") == 1
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert finishes[-1] == "stop" and not any(finishes[:-1])
    # Three words were said before, and count as output.
    usage = chunks[-1].usage
    assert usage.completion_tokens > 3
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    first, second = [received.json for received in upstream.received()]
    assert (first["model"], second["model"]) == ("cut:3:resumed", "events:8")
    said = {"role": "assistant", "content": "w1 w2 w3 ", "partial": True}
    assert second["messages"] == [*first["messages"], said]


def test_a_helper_that_puts_chunks_together_has_one_answer(client):
    with client.chat.completions.stream(model="resumed", messages=HELLO) as stream:
        completion = stream.get_final_completion()
    message = completion.choices[0].message
    assert message.content == "".join(f"w{number} " for number in range(1, 9))
    assert (message.role, completion.choices[0].finish_reason) == ("assistant", "stop")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_no_target_is_left(client, stream):
    # At first each is asked, then as many as there are retries, and at last nobody.
    for _ in range(10):
        start = time.monotonic()
        with pytest.raises(openai.InternalServerError) as caught:
            chat(client, "all-dead", stream=stream)
        assert time.monotonic() - start < 2
        assert caught.value.request_id.startswith("req_")
        assert (caught.value.status_code, caught.value.code) == (503, "no_target_available")
        message = caught.value.message
        asked = [f"nowhere/{name}: " in message for name in "ab"]
        assert all(asked) or (any(asked) and "nobody else was asked" in message)
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 5


def test_the_last_words_of_providers_are_told(client):
    with pytest.raises(openai.APIStatusError) as caught:
        chat(client, "all-busy")
    assert caught.value.status_code in (500, 502)
    assert caught.value.message


def test_who_tries_again_by_themselves_ends_as_well(client):
    start = time.monotonic()
    with pytest.raises(openai.InternalServerError):
        chat(client.with_options(max_retries=1), "all-dead")
    assert 0.4 < time.monotonic() - start < 10
