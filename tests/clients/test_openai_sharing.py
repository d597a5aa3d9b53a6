"""A reply that is lost on its way, and the SDK's own retries: with an `Idempotency-Key` the provider is
asked once, whatever happens in between."""

import socket
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import openai
import pytest

from support import CLIENT_KEY, HELLO, MAGPIE, TEXT


class Lossy:
    """Stands in front of Magpie, and loses the replies on the first connections."""

    def __init__(self, losses):
        self.target = urlsplit(MAGPIE)
        self.losses = losses
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.losses -= 1
            threading.Thread(target=self._serve, args=(client, self.losses >= 0), daemon=True).start()

    def _serve(self, client, loses):
        server = socket.create_connection((self.target.hostname, self.target.port))
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        if loses:
            # The whole reply was written, as far as Magpie knows.
            server.recv(65536)
            client.shutdown(socket.SHUT_RDWR)
            server.close()
        else:
            self._pump(server, client)

    @staticmethod
    def _pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


@pytest.fixture
def lossy():
    lossy = Lossy(losses=1)
    yield lossy
    lossy.close()


def retrying(url, **options):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=CLIENT_KEY, **{"timeout": 20} | options)


def key():
    return {"Idempotency-Key": str(uuid.uuid4())}


def ask(client, model="mock/ok", **options):
    return client.chat.completions.with_raw_response.create(model=model, messages=HELLO, **options)


def test_a_lost_reply_is_asked_for_once(lossy, upstream):
    raw = ask(retrying(lossy.url), extra_headers=key())
    assert raw.parse().choices[0].message.content == TEXT
    assert raw.headers["idempotent-replayed"] == "true"
    assert raw.headers["x-magpie-attempts"] == "0"
    assert len(upstream.received()) == 1


def test_without_a_key_it_is_asked_for_twice(lossy, upstream):
    raw = ask(retrying(lossy.url))
    assert raw.parse().choices[0].message.content == TEXT
    assert "idempotent-replayed" not in raw.headers
    assert len(upstream.received()) == 2


def test_a_stream_whose_head_is_lost_is_asked_for_once(lossy, upstream):
    client = retrying(lossy.url)
    chunks = list(client.chat.completions.create(
        model="mock/events:5:20", messages=HELLO, stream=True, extra_headers=key()
    ))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "w1 w2 w3 w4 w5 "
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(upstream.received()) == 1


def test_a_client_that_is_impatient_gets_the_answer_in_the_end(upstream):
    client = retrying(MAGPIE, timeout=1, max_retries=5)
    raw = ask(client, "mock/slow:2500", extra_headers=key())
    assert raw.parse().choices[0].message.content == TEXT
    assert raw.headers["idempotent-replayed"] == "true"
    assert len(upstream.received()) == 1


def test_the_keys_of_the_sdk_itself_will_do(lossy, upstream):
    client = retrying(lossy.url)
    client._idempotency_header = "Idempotency-Key"
    for _ in range(2):
        assert ask(client).parse().choices[0].message.content == TEXT
    received = upstream.received()
    keys = [request.headers["idempotency-key"] for request in received]
    assert len(keys) == len(set(keys)) == 2 and all("retry" in key for key in keys)


def test_a_key_for_two_requests_raises(client, upstream):
    mine = key()
    ask(client, extra_headers=mine)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(client, "mock/other", extra_headers=mine)
    assert caught.value.code == "idempotency_key_reused"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, extra_headers={"Idempotency-Key": "x" * 256})
    assert caught.value.code == "invalid_idempotency_key"
    assert len(upstream.received()) == 1


def test_many_at_once_share_a_call(client, upstream):
    mine = key()
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(ask, client, "mock/slow:300", extra_headers=mine) for _ in range(20)]
        replies = [job.result() for job in jobs]
    assert len({reply.content for reply in replies}) == 1
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == 19
    assert len(upstream.received()) == 1


def test_a_model_with_single_flight_is_asked_once_at_a_time(client, upstream):
    def stream(_):
        return [chunk.model_dump() for chunk in client.chat.completions.create(
            model="single", messages=HELLO, stream=True
        )]

    with ThreadPoolExecutor(20) as pool:
        streams = list(pool.map(stream, range(20)))
    assert all(chunks == streams[0] for chunks in streams)
    assert streams[0][-1]["choices"][0]["finish_reason"] == "stop"
    assert len(upstream.received()) == 1
    stream(None)
    assert len(upstream.received()) == 2
