"""A real OpenAI-compatible server of another house behind Magpie: llama.cpp's."""

import os
from pathlib import Path

import openai
import pytest

from processes import Server, start_magpie
from support import CLIENT_KEY, HELLO, wait_until


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    script = Path(__file__).with_name("llama_server.py")
    python = os.environ["CLIENTS_LLAMA_PYTHON"]
    server = Server("llama.cpp", [python, script, folder], folder / "llama.log", limit=60)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def magpie(llama, tmp_path_factory):
    """A Magpie of its own that knows nothing but the address."""
    folder = tmp_path_factory.mktemp("magpie")
    config = {
        "providers": {"llamacpp": {"base_url": f"{llama.url}/v1"}},
        "models": {"default": "llamacpp/tiny"},
    }
    server = start_magpie(os.environ["CLIENTS_MAGPIE_BIN"], config, folder)
    yield server
    server.stop()


@pytest.fixture
def client(magpie):
    with openai.OpenAI(
        base_url=f"{magpie.url}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=30
    ) as client:
        yield client


def logged(magpie, request_id):
    """Magpie's log line of a request."""

    def line():
        entries = magpie.entries()
        return next((e for e in entries if e.get("request_id") == request_id), None)

    return wait_until(line)


def test_chat(client, magpie):
    raw = client.chat.completions.with_raw_response.create(
        model="llamacpp/tiny", messages=HELLO, max_tokens=12
    )
    assert raw.headers["x-magpie-provider"] == "llamacpp"
    assert raw.headers["x-magpie-target"] == "llamacpp/tiny"
    reply = raw.parse()
    assert reply.choices[0].finish_reason == "length"
    assert len(reply.choices[0].message.content.split()) == 12
    assert reply.usage.completion_tokens == 12 and reply.usage.prompt_tokens > 0
    # A field of llama.cpp's own passes too.
    assert reply.timings["predicted_n"] == 12
    line = logged(magpie, raw.headers["x-request-id"])
    assert (line["provider"], line["upstream_model"]) == ("llamacpp", "tiny")
    assert (line["status"], line["outcome"], line["stream"]) == (200, "complete", False)
    assert line["output_tokens"] == 12
    assert line["input_tokens"] == reply.usage.prompt_tokens


def test_stream(client, magpie):
    raw = client.chat.completions.with_raw_response.create(
        model="default", messages=HELLO, max_tokens=12, stream=True
    )
    chunks = list(raw.parse())
    assert all(chunk.choices for chunk in chunks), "the usage was not asked for"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(words) == 12, "chunk by chunk"
    line = logged(magpie, raw.headers["x-request-id"])
    assert (line["outcome"], line["stream"], line["output_tokens"]) == ("complete", True, 12)
    assert line["events"] >= len(chunks)


def test_stream_with_usage(client):
    *chunks, last = client.chat.completions.create(
        model="llamacpp/tiny",
        messages=HELLO,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert last.choices == [] and last.usage.completion_tokens == 12
    assert all(chunk.choices for chunk in chunks)


def test_grammar(client):
    """A parameter that only this server understands; it has to arrive, or noise comes back."""
    reply = client.chat.completions.create(
        model="llamacpp/tiny",
        messages=HELLO,
        max_tokens=30,
        extra_body={"grammar": 'root ::= "yes " ("magpie" | "bridge")'},
    )
    assert reply.choices[0].message.content in ("yes magpie", "yes bridge")


def test_completions(client):
    reply = client.completions.create(model="llamacpp/tiny", prompt="the", max_tokens=5)
    assert reply.usage.completion_tokens == 5 and reply.choices[0].text


def test_embeddings(client):
    packed = client.embeddings.create(model="llamacpp/tiny", input=["the river", "the stars"])
    plain = client.embeddings.create(
        model="llamacpp/tiny", input=["the river", "the stars"], encoding_format="float"
    )
    assert [len(item.embedding) for item in packed.data] == [64, 64]
    for one, other in zip(packed.data, plain.data):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-5)
    assert plain.usage.prompt_tokens > 0


def test_its_errors_are_its_own(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="llamacpp/tiny", messages=HELLO, extra_body={"grammar": "root ::= ("}
        )
    assert "grammar" in caught.value.message


def test_leaving_a_stream_frees_the_server(client):
    stream = client.chat.completions.create(
        model="llamacpp/tiny", messages=HELLO, max_tokens=1900, stream=True
    )
    next(iter(stream))
    stream.close()
    reply = client.chat.completions.create(model="llamacpp/tiny", messages=HELLO, max_tokens=2)
    assert reply.usage.completion_tokens == 2


def test_a_server_that_is_gone(magpie, llama, client):
    """The last test: the server is taken away."""
    llama.stop()
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="llamacpp/tiny", messages=HELLO)
    assert caught.value.code == "provider_unreachable"
    line = logged(magpie, caught.value.request_id)
    assert (line["status"], line["outcome"]) == (502, "unreachable")
