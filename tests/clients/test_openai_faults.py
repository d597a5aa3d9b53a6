"""Whatever goes wrong, the SDK raises what its users expect: no hang, and never a part of an answer
taken for the whole."""

import json
import time

import openai
import pytest

from support import HELLO, REAL_KEY, TEXT, wait_until

# A stream that begins well and ends badly: model, code of the error, deltas that may come first.
BROKEN_STREAMS = [
    ("mock/cut:0", "provider_truncated", 0),
    ("mock/cut:3", "provider_truncated", 3),
    ("mock/reset:3", "provider_truncated", 3),
    ("mock/eof:3", "provider_truncated", 3),
    ("mock/malformed:3", "provider_malformed", 3),
    ("mock/not-sse", None, 0),
    ("mock/error-event:3", "server_error", 3),
    ("xinghe/error-event:3:baidu", "336501", 3),
    ("mock/error-event:3:minimax", "1002", 3),
    ("hasty/hang-headers", "provider_timeout", 0),
    ("hasty/stall:3", "provider_timeout", 3),
]

# A request that fails as a whole: model, what the SDK raises, status, code.
FAILURES = [
    ("mock/status:400", openai.BadRequestError, 400, "invalid_value"),
    ("mock/status:401", openai.AuthenticationError, 401, "invalid_api_key"),
    ("mock/status:402", openai.APIStatusError, 402, "insufficient_quota"),
    ("mock/status:403", openai.PermissionDeniedError, 403, "unsupported_country_region_territory"),
    ("mock/status:404", openai.NotFoundError, 404, "model_not_found"),
    ("mock/status:409", openai.ConflictError, 409, "server_error"),
    ("mock/status:422", openai.UnprocessableEntityError, 422, "server_error"),
    ("mock/status:429", openai.RateLimitError, 429, "rate_limit_exceeded"),
    ("mock/status:500", openai.InternalServerError, 500, "server_error"),
    ("mock/status:503", openai.InternalServerError, 503, "server_error"),
    ("mock/status:529", openai.InternalServerError, 529, "server_error"),
    ("mock/html:502", openai.InternalServerError, 502, "provider_error"),
    ("mock/html:404", openai.NotFoundError, 404, "provider_error"),
    ("mock/redirect", openai.InternalServerError, 502, "provider_redirect"),
    ("mock/error200", openai.InternalServerError, 502, "server_error"),
    ("mock/error200:minimax", openai.RateLimitError, 429, "1002"),
    ("xinghe/error200:baidu", openai.RateLimitError, 429, "336501"),
    ("nowhere/any", openai.InternalServerError, 502, "provider_unreachable"),
    ("hasty/hang", openai.InternalServerError, 504, "provider_timeout"),
]

# Failures that only a reply in one piece can have.
WHOLE_FAILURES = [
    ("mock/cut:1", openai.InternalServerError, 502, "provider_truncated"),
    ("mock/reset:1", openai.InternalServerError, 502, "provider_truncated"),
    ("mock/truncated-body", openai.InternalServerError, 502, "provider_truncated"),
    ("mock/html:200", openai.InternalServerError, 502, "provider_malformed"),
    ("mock/error-event:1:baidu", openai.InternalServerError, 502, "336501"),
    ("hasty/stall:1", openai.InternalServerError, 504, "provider_timeout"),
    ("hasty/hang-headers", openai.InternalServerError, 504, "provider_timeout"),
]


def chat(client, model, **options):
    return client.chat.completions.create(model=model, messages=HELLO, **options)


@pytest.mark.parametrize("model, code, most", BROKEN_STREAMS)
def test_broken_stream(client, model, code, most):
    start, deltas, finishes = time.monotonic(), [], []
    with pytest.raises(openai.APIError) as caught:
        for chunk in chat(client, model, stream=True):
            deltas.extend(choice.delta.content or "" for choice in chunk.choices)
            finishes.extend(choice.finish_reason for choice in chunk.choices)
    assert type(caught.value) is openai.APIError, "an error event, not a broken connection"
    assert caught.value.message
    if code:
        assert str(caught.value.code) == code
    text = "".join(deltas)
    expected = "".join(f"w{number} " for number in range(1, most + 1))
    # A reset may swallow what was under way; what arrived is a beginning all the same.
    assert expected.startswith(text) and (text == expected or "reset" in model)
    assert not any(finishes), "no invented finish_reason"
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model, error, status, code", FAILURES)
def test_failure(client, model, error, status, code, stream):
    start = time.monotonic()
    with pytest.raises(error) as caught:
        chat(client, model, stream=stream)
    assert caught.value.status_code == status
    assert str(caught.value.code) == code
    assert caught.value.message and caught.value.type
    assert caught.value.request_id.startswith("req_")
    assert time.monotonic() - start < 8


@pytest.mark.parametrize("model, error, status, code", WHOLE_FAILURES)
def test_whole_failure(client, model, error, status, code):
    test_failure(client, model, error, status, code, False)


@pytest.mark.parametrize(
    "model, error, status, code",
    [
        ("mock/cut:1", openai.InternalServerError, 502, "provider_truncated"),
        ("mock/status:429:7", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("xinghe/error200:baidu", openai.RateLimitError, 429, "336501"),
        ("hasty/hang", openai.InternalServerError, 504, "provider_timeout"),
    ],
)
def test_embeddings_fail_the_same_way(client, model, error, status, code):
    with pytest.raises(error) as caught:
        client.embeddings.create(model=model, input="a")
    assert (caught.value.status_code, str(caught.value.code)) == (status, code)


@pytest.mark.parametrize(
    "model, error, status",
    [
        ("mock/status:401", openai.AuthenticationError, 401),
        ("mock/status:429:7", openai.RateLimitError, 429),
        ("mock/html:502", openai.InternalServerError, 502),
        ("hasty/hang", openai.InternalServerError, 504),
        ("nowhere/any", openai.InternalServerError, 502),
    ],
)
def test_forwarded_requests_fail_the_same_way(client, model, error, status):
    with pytest.raises(error) as caught:
        client.images.generate(model=model, prompt="a magpie")
    assert caught.value.status_code == status and caught.value.message


def test_a_broken_forwarded_reply_is_never_an_answer(client):
    for model in ("mock/cut:1", "mock/reset:1", "mock/truncated-body", "hasty/stall:1"):
        with pytest.raises(openai.APIError):
            client.images.generate(model=model, prompt="a magpie")


def test_a_whole_reply_where_a_stream_was_asked_for(client):
    with pytest.raises(openai.InternalServerError) as caught:
        chat(client, "mock/json-for-stream", stream=True)
    assert caught.value.code == "provider_not_streaming"


def test_rate_limits_keep_their_headers(client):
    with pytest.raises(openai.RateLimitError) as caught:
        chat(client, "mock/status:429:7", stream=True)
    headers = caught.value.response.headers
    assert headers["retry-after"] == "7"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "7s"
    assert "scripted error 429" in caught.value.message


def test_the_sdk_waits_as_long_as_the_provider_says(client, upstream):
    busy = {"script": "status:429:1"}
    upstream.script("patient", busy, {"script": "ok"})
    start = time.monotonic()
    reply = chat(client.with_options(max_retries=2), "mock/patient")
    assert reply.choices[0].message.content == TEXT
    assert 0.9 < time.monotonic() - start < 4
    assert len(upstream.received()) == 2


def test_unknown_model(client, upstream):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, "fats")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "`fast`" in caught.value.message
    assert upstream.received() == []


@pytest.mark.parametrize(
    "body, code, words",
    [
        (b'{"model": "mock/ok", "messages": []}', "invalid_field", "`messages`"),
        (b'{"model": "mock/ok"}', "invalid_field", "`messages`"),
        (b'{"model": "mock/ok", "messages": "hi"}', "invalid_field", "array"),
        (b'{"model": 7, "messages": [1]}', "invalid_field", "`model`"),
        (b'{"model": "mock/ok",\n "messages": [}', "invalid_json", "line 2"),
        (b'{"model": "mock/ok", "model": "x", "messages": [1]}', "duplicate_field", "`model`"),
        (b"", "invalid_json", ""),
        (b"[" * 100_000, "invalid_json", ""),
    ],
)
def test_bad_input_goes_nowhere(client, upstream, body, code, words):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, content=body)
    assert caught.value.code == code and words in caught.value.message
    assert upstream.received() == []


def test_too_large(client, upstream):
    messages = [{"role": "user", "content": "x" * (2 << 20)}]
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="mock/ok", messages=messages)
    assert caught.value.status_code == 413 and caught.value.code == "body_too_large"
    assert "1048576" in caught.value.message or "1 MiB" in caught.value.message
    assert upstream.received() == []


def test_unknown_path_and_method(client):
    with pytest.raises(openai.BadRequestError):
        client.get("/%2e%2e/secret", cast_to=object)
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/chat/completions", cast_to=object)
    assert caught.value.status_code == 405
    assert caught.value.response.headers["allow"] == "POST"


def test_a_key_that_the_provider_echoes_stays_inside(client, upstream):
    error = {"message": f"Incorrect API key provided: {REAL_KEY}.", "code": "invalid_api_key"}
    upstream.script("echo-key", {"status": 401, "body": {"error": error}})
    with pytest.raises(openai.AuthenticationError) as caught:
        chat(client, "mock/echo-key")
    assert "Incorrect API key" in caught.value.message
    assert REAL_KEY not in json.dumps(caught.value.body)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_gives_up_cancels(client, upstream, stream):
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.3), "mock/hang", stream=stream)
    gone = time.monotonic()
    wait_until(lambda: upstream.last().peer_left, limit=0.5)
    assert time.monotonic() - gone < 0.5
    assert upstream.last().left_after_ms < 800


def test_a_client_that_leaves_a_stream_cancels(client, upstream):
    stream = chat(client, "mock/events:2000:20", stream=True)
    next(iter(stream))
    stream.close()
    wait_until(lambda: upstream.last().peer_left, limit=0.5)
    assert upstream.last().events_sent < 100


def test_a_connection_that_the_provider_closed_is_not_used_again(client, upstream):
    for _ in range(5):
        assert chat(client, "mock/close-after").choices[0].message.content == TEXT
        assert chat(client, "mock/ok").choices[0].message.content == TEXT
    assert len(upstream.received()) == 10
