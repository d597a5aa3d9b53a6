"""The rest of the OpenAI API: embeddings, models, uploads, and whatever else is forwarded."""

import io
import wave

import openai
import pytest

from support import HELLO, MAGPIE, TEXT, wait_until

# Requests that name no model name the provider instead.
BY_HEADER = {"x-magpie-provider": "mock"}


def fnv1a64(data):
    """The hash by which the scripted upstream tells which bytes it received."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x} {len(data)}"


def sound():
    """A tenth of a second of a WAV file, with every byte value in it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(range(256)) * 6)
    return file.getvalue()


def test_embeddings(client, upstream):
    texts = ["a bridge", "of magpies"]
    packed = client.embeddings.create(model="mock/embed", input=texts, dimensions=16)
    assert upstream.last().json["encoding_format"] == "base64"
    assert upstream.last().json["input"] == texts
    plain = client.embeddings.create(
        model="mock/embed", input=texts, dimensions=16, encoding_format="float"
    )
    assert [len(item.embedding) for item in packed.data] == [16, 16]
    assert [i.embedding for i in packed.data] == [i.embedding for i in plain.data]
    assert plain.usage.total_tokens == 22


def test_completions(client):
    reply = client.completions.create(model="mock/ok", prompt="Once")
    assert reply.choices[0].text == TEXT
    stream = client.completions.create(model="mock/ok", prompt="Once", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == TEXT
    with pytest.raises(openai.APIError) as caught:
        list(client.completions.create(model="mock/cut:2", prompt="Once", stream=True))
    assert caught.value.code == "provider_truncated"


def test_models(client):
    names = {model.id: model.owned_by for model in client.models.list()}
    assert names["fast"] == "mock" and names["mock/ok"] == "mock" and "echo" in names
    assert client.models.retrieve("fast").id == "fast"
    assert client.models.retrieve("mock/some/new-model").id == "mock/some/new-model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody/knows")
    assert caught.value.code == "model_not_found"


def test_model_names(client, upstream):
    def asked(model):
        client.chat.completions.create(model=model, messages=HELLO)
        return upstream.last().json["model"]

    assert asked("fast") == "ok"
    assert asked("default") == "gpt-4o-mini"
    assert asked("team-7b") == "qwen-7b"
    assert asked("mock/ns/model:tag") == "ns/model:tag"


def test_declared_edits(client, upstream):
    client.chat.completions.create(
        model="edited", messages=HELLO, temperature=0, user="me", logit_bias={"1": 2}
    )
    received = upstream.last().json
    assert received["temperature"] == 0, "a default overrides nothing"
    assert received["top_p"] == 0.5, "a default fills what is left out"
    assert received["user"] == "lab", "force overrides"
    assert "logit_bias" not in received


def test_moderations(client):
    reply = client.moderations.create(model="mock/moderator", input=["a", "b"])
    assert [result.flagged for result in reply.results] == [False, False]


def test_images(client, upstream):
    reply = client.images.generate(
        model="mock/painter", prompt="a magpie", n=2, response_format="b64_json"
    )
    assert len(reply.data) == 2 and reply.data[0].b64_json
    assert upstream.last().json["model"] == "painter"


def test_transcription_is_uploaded_byte_for_byte(client, upstream, tap):
    client = client.with_options(base_url=f"{tap.url}/v1")
    reply = client.audio.transcriptions.create(
        model="mock/whisper", file=("鹊桥.wav", sound(), "audio/wav"), language="zh"
    )
    (sent,) = tap.bodies()
    expected = sent.replace(b"\r\nmock/whisper\r\n", b"\r\nwhisper\r\n")
    assert expected != sent
    assert reply.digest == fnv1a64(expected)
    assert upstream.last().headers["content-type"].startswith("multipart/form-data; boundary=")


def test_large_upload(client, upstream):
    body = sound() * 6000
    client.audio.transcriptions.create(model="mock/whisper", file=("a.wav", body, "audio/wav"))
    assert upstream.last().length > len(body) > 8_000_000


def test_speech_is_binary(client):
    reply = client.audio.speech.create(model="mock/speaker", voice="alloy", input="hello")
    assert reply.read() == b"\xff\xfbscripted" * 400
    assert reply.response.headers["content-type"] == "audio/mpeg"


def test_files(client, upstream):
    client = client.with_options(default_headers=BY_HEADER)
    file = client.files.create(file=("batch.jsonl", b"{}\n"), purpose="batch")
    assert file.id == "file-scripted"
    assert [entry.id for entry in client.files.list(limit=2)] == ["file-1", "file-2"]
    assert upstream.last().target == "/v1/files?limit=2"
    assert client.files.content(file.id).read() == b'{"scripted":true}\n'
    assert client.files.delete(file.id).deleted
    assert upstream.last().method == "DELETE"
    assert "x-magpie-provider" not in upstream.last().headers


def test_a_request_for_nobody_in_particular(client, upstream):
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.list()
    assert caught.value.code == "provider_required"
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.list(extra_headers={"x-magpie-provider": "nobody"})
    assert caught.value.code == "provider_not_found"
    assert upstream.received() == []


def test_responses(client, upstream):
    reply = client.responses.create(model="mock/ok", input="hello", store=False)
    assert reply.output_text == TEXT
    assert upstream.last().json == {"model": "ok", "input": "hello", "store": False}
    stored = client.responses.retrieve("resp_1", extra_headers=BY_HEADER)
    assert stored.id == "resp_1"


def test_responses_stream(client):
    events = list(client.responses.create(model="mock/ok", input="hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == TEXT
    assert events[-1].type == "response.completed"


@pytest.mark.parametrize("fault", ["cut:3", "reset:3", "stall:3"])
def test_a_broken_responses_stream_raises(client, fault):
    provider = "hasty" if fault.startswith("stall") else "mock"
    kinds = []
    with pytest.raises(openai.APIError):
        stream = client.responses.create(model=f"{provider}/{fault}", input="hello", stream=True)
        kinds.extend(event.type for event in stream)
    assert "response.completed" not in kinds


def test_leaving_a_forwarded_stream_cancels_it(client, upstream):
    stream = client.responses.create(model="mock/events:2000:20", input="hello", stream=True)
    next(iter(stream))
    stream.close()
    wait_until(lambda: upstream.last().peer_left, limit=0.5)


def test_response_headers(client):
    raw = client.chat.completions.with_raw_response.create(model="mock/headers", messages=HELLO)
    headers = raw.headers
    assert headers["x-request-id"].startswith("req_") and headers["x-request-id"] != "req_scripted"
    assert headers["x-upstream-request-id"] == "req_scripted"
    assert headers["x-bce-request-id"] == "bce-scripted"
    assert headers["x-magpie-provider"] == "mock"
    assert headers["x-magpie-target"] == "mock/headers"
    assert headers["x-magpie-attempts"] == "1"
    assert int(headers["x-magpie-overhead-us"]) < 1_000_000
    assert headers["x-ratelimit-remaining-requests"] == "9999"
    assert headers["x-ratelimit-reset-tokens"] == "0s"
    assert headers["openai-processing-ms"] == "42"
    for name in ("set-cookie", "server", "via", "alt-svc", "x-custom-header", "keep-alive"):
        assert name not in headers
    assert "access-control-allow-origin" not in headers
    assert raw.parse().choices[0].message.content == TEXT


def test_stream_headers(client):
    with client.chat.completions.with_streaming_response.create(
        model="mock/headers", messages=HELLO, stream=True
    ) as raw:
        headers = raw.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-cache"
        assert headers["x-magpie-target"] == "mock/headers"
        assert headers["x-ratelimit-limit-tokens"] == "2000000"
        assert "content-length" not in headers and "set-cookie" not in headers
        assert b"".join(raw.iter_bytes()).endswith(b"data: [DONE]\n\n")


def test_request_headers(client, upstream):
    client.chat.completions.create(
        model="mock/ok",
        messages=HELLO,
        extra_headers={
            "Cookie": "session=secret",
            "X-Forwarded-For": "10.0.0.1",
            "X-Api-Key": "sk-client-key",
            "Idempotency-Key": "once",
            "OpenAI-Beta": "assistants=v2",
            "X-Private": "mine",
        },
    )
    headers = upstream.last().headers
    assert headers["idempotency-key"] == "once" and headers["openai-beta"] == "assistants=v2"
    for name in ("cookie", "x-forwarded-for", "x-api-key", "x-private", "x-stainless-lang"):
        assert name not in headers
    assert headers["host"] not in MAGPIE
