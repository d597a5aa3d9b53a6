"""Plain HTTP by curl: protocol versions, odd but valid requests, and who is let in."""

import json
import subprocess
import time

import pytest

from support import CLIENT_KEY, HELLO, MAGPIE, TEXT

CHAT = f"{MAGPIE}/v1/chat/completions"
BODY = json.dumps({"model": "mock/ok", "messages": HELLO})
STREAM = json.dumps({"model": "mock/ok", "messages": HELLO, "stream": True})


class Reply:
    """What curl -i printed: the last head, and the body."""

    def __init__(self, output):
        head, self.body = output.split("\r\n\r\n", 1)
        while self.body.startswith("HTTP/"):
            head, self.body = self.body.split("\r\n\r\n", 1)
        status, *lines = head.split("\r\n")
        self.version, self.status = status.split()[0], int(status.split()[1])
        self.headers = {}
        for line in lines:
            name, value = line.split(":", 1)
            self.headers[name.lower()] = value.strip()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def content(self):
        return self.json["choices"][0]["message"]["content"]


def curl(*arguments, url=CHAT, input=None):
    command = ["curl", "-sS", "-i", "-m", "20", *arguments, url]
    done = subprocess.run(command, input=input, capture_output=True, timeout=30)
    assert done.returncode == 0, f"curl: {done.returncode}: {done.stderr.decode()}"
    return Reply(done.stdout.decode())


def test_no_key_no_content_type_no_model(upstream):
    body = json.dumps({"messages": HELLO})
    for headers in ([], ["-H", "content-type:"], ["-H", f"authorization: bearer {CLIENT_KEY}"]):
        reply = curl(*headers, "-d", body)
        assert reply.status == 200 and reply.content == TEXT
        assert reply.headers["x-magpie-target"] == "mock/gpt-4o-mini"
    assert upstream.last().json["model"] == "gpt-4o-mini"
    assert upstream.last().headers["content-type"] == "application/json"


def test_the_built_in_echo():
    reply = curl("-d", json.dumps({"model": "echo", "messages": HELLO}))
    assert reply.status == 200 and "hello" in reply.content


def test_events_are_printed_as_they_come():
    body = json.dumps({"model": "mock/events:5:200", "messages": HELLO, "stream": True})
    command = ["curl", "-sS", "-N", "-m", "20", "-d", body, CHAT]
    times, lines = [], []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("data: "):
                lines.append(line.removeprefix("data: ").strip())
                times.append(time.monotonic())
    assert process.returncode == 0
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"].get("content") for line in lines[:-1]]
    assert [delta for delta in deltas if delta] == [f"w{number} " for number in range(1, 6)]
    assert times[-1] - times[1] > 0.6, "not all at once"


@pytest.mark.parametrize(
    "version, expected",
    [
        ("--http1.0", "HTTP/1.0"),
        ("--http1.1", "HTTP/1.1"),
        ("--http2-prior-knowledge", "HTTP/2"),
        # An offer to upgrade a clear connection, which may be ignored, and is.
        ("--http2", "HTTP/1.1"),
    ],
)
def test_http_versions(version, expected):
    reply = curl(version, "-d", BODY)
    assert (reply.version, reply.status, reply.content) == (expected, 200, TEXT)
    reply = curl(version, "-d", STREAM)
    assert (reply.version, reply.status) == (expected, 200)
    assert "content-length" not in reply.headers
    assert reply.body.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
def test_a_broken_stream_says_so(version):
    body = json.dumps({"model": "mock/cut:2", "messages": HELLO, "stream": True})
    reply = curl(version, "-d", body)
    *_, last = reply.body.strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "provider_truncated"
    assert "[DONE]" not in reply.body and '"finish_reason":"' not in reply.body


def test_chunked_upload(upstream):
    reply = curl("-H", "transfer-encoding: chunked", "--data-binary", "@-", input=BODY.encode())
    assert reply.status == 200 and reply.content == TEXT
    assert upstream.last().headers["content-length"] == str(upstream.last().length)


def test_expect_100_continue(upstream):
    filler = [{"role": "user", "content": "x" * 500_000}]
    body = json.dumps({"model": "mock/ok", "messages": filler})
    start = time.monotonic()
    reply = curl("-H", "expect: 100-continue", "--data-binary", "@-", input=body.encode())
    assert reply.status == 200
    assert time.monotonic() - start < 0.9, "curl waits for one second if nobody tells it to go on"
    assert "expect" not in upstream.last().headers


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_an_upload_over_the_limit_is_told_so(version):
    upload = b" " * (21 << 20)
    reply = curl(version, "-H", "expect:", "--data-binary", "@-", input=upload)
    assert reply.status == 413 and reply.json["error"]["code"] == "body_too_large"


def test_doubled_slashes_and_queries(upstream):
    reply = curl("--path-as-is", "-d", BODY, url=f"{MAGPIE}//v1/chat/completions?a=b%20c")
    assert reply.status == 200 and reply.content == TEXT
    assert upstream.last().target == "/v1/chat/completions?a=b%20c"
    assert curl("--path-as-is", "-d", BODY, url=f"{MAGPIE}/v1//chat/completions").status == 200
    assert curl("--path-as-is", "-d", BODY, url=f"{MAGPIE}/v1/../v1/chat/completions").status == 400


def test_head_and_get_of_the_root():
    reply = curl("--head", url=f"{MAGPIE}/")
    assert reply.status == 200 and reply.body == ""
    assert curl(url=f"{MAGPIE}/").json["service"] == "magpie"
    assert curl(url=f"{MAGPIE}/health").json["status"] == "ok"
    assert curl(url=f"{MAGPIE}/nothing").json["error"]["code"] == "unknown_path"


def test_several_requests_on_one_connection():
    command = ["curl", "-sS", "-m", "20", "-w", "%{num_connects} ", "-o", "/dev/null"]
    done = subprocess.run(
        [*command, "-d", BODY, CHAT, "-o", "/dev/null", CHAT, "-o", "/dev/null", CHAT],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == ["1", "0", "0"], done.stderr


def test_websockets_are_declined():
    reply = curl(
        *("-H", "connection: Upgrade", "-H", "upgrade: websocket"),
        *("-H", "sec-websocket-version: 13", "-H", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="),
        url=f"{MAGPIE}/v1/responses",
    )
    assert reply.status == 404 and reply.json["error"]["code"] == "websocket_unsupported"


def test_compressed_bodies_are_declined():
    reply = curl("-H", "content-encoding: gzip", "-d", BODY)
    assert reply.status == 415 and reply.json["error"]["code"] == "compressed_body"


def preflight(origin):
    return curl(
        *("-X", "OPTIONS", "-H", f"origin: {origin}"),
        *("-H", "access-control-request-method: POST"),
        *("-H", "access-control-request-headers: authorization,content-type"),
    )


def test_pages_on_localhost_may_call():
    for origin in ("http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:80"):
        reply = preflight(origin)
        assert reply.status == 204
        assert reply.headers["access-control-allow-origin"] == origin
        assert "POST" in reply.headers["access-control-allow-methods"]
        assert "authorization" in reply.headers["access-control-allow-headers"]
        reply = curl("-H", f"origin: {origin}", "-d", BODY)
        assert reply.status == 200 and reply.content == TEXT
        assert reply.headers["access-control-allow-origin"] == origin
        assert "x-magpie-provider" in reply.headers["access-control-expose-headers"]


def test_other_pages_may_not(upstream):
    origins = ["https://evil.example", "http://localhost.evil.example", "null", "file://"]
    for origin in [*origins, "http://evil.example:3000", "http://localhost@evil.example"]:
        for reply in (preflight(origin), curl("-H", f"origin: {origin}", "-d", BODY)):
            assert reply.status == 403, origin
            assert reply.json["error"]["code"] == "origin_not_allowed"
            assert "access-control-allow-origin" not in reply.headers
    assert upstream.received() == []


def test_a_foreign_host_is_refused(upstream):
    models = f"{MAGPIE}/v1/models"
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil"):
        replies = [
            curl("-H", f"host: {host}", "-d", BODY),
            curl("--request-target", f"http://{host}/v1/chat/completions", "-d", BODY),
            curl("--http2-prior-knowledge", "-H", f"host: {host}", "-d", BODY),
            curl("--http2-prior-knowledge", "-H", f"host: {host}", url=models),
        ]
        for reply in replies:
            assert reply.status == 403 and reply.json["error"]["code"] == "host_not_allowed"
    assert upstream.received() == []
    assert curl("-H", "host: localhost:1234", "-d", BODY).status == 200
