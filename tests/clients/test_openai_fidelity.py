"""What the client sends reaches the provider, and what the provider sends reaches the client, byte
for byte but for the declared edits."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from support import CLIENT_KEY, HELLO, MAGPIE

LONG = 123456789012345678901234567890

# Everything that a parser would change: numbers beyond doubles, escapes, lone surrogates, blanks,
# fields nobody knows (one of them twice), empty values, and the order of it all.
NASTY = r"""{ "zeta" : null,
  "seed":123456789012345678901234567890, "temperature" : 0.70000000000000000001, "top_p": 1e-7,
  "penalty": -0.0, "huge": 1E+400, "model" :  "MODEL" , "messages":[
    {"role":"system","content":"\u00e9\/\u4f60\ud83d\ude00 \ud800 \u0000\t","name":"a\"b"},
    {"content":[{"type":"image_url","image_url":{"url":"https:\/\/x.invalid\/a.png"}}],
      "role":"user"},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",
      "function":{"name":"f","arguments":"{\"a\" :1.0,\n\"b\":\"\\u00e9\"}"}}]}
  ],
  "stop":[], "user":"", "store":false, "logit_bias":{"50256":-100}, "enable_thinking":true,
  "twice": 1, "twice": 2, "模型": "鹊桥 🎉", "metadata":{"model":"inner","stream":true}
}
"""


def post(path, body, **headers):
    """A POST without any library between: status, headers and the bytes of the reply."""
    address = urlsplit(MAGPIE)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    fields = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
    connection.request("POST", path, body=body, headers=fields | headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, response.headers, data


@pytest.mark.parametrize("kind", ["chat/completions", "completions", "embeddings", "responses"])
def test_a_nasty_body(upstream, kind):
    """A bare name goes through without any edit, a qualified one with that edit alone."""
    for name in ("ok", "mock/ok"):
        status, _, reply = post(f"/v1/{kind}", NASTY.replace("MODEL", name).encode())
        assert status == 200, reply
        assert upstream.last().text == NASTY.replace("MODEL", "ok")


def test_a_nasty_stream(upstream):
    options = r"""{ "stream_options" : {"odd":1.50, "include_usage" : true }, "stream":true ,"""
    body = NASTY.replace("MODEL", "ok").replace("{", options, 1)
    # The scripted upstream has to understand at least that a stream is wanted.
    body = body.replace("1E+400", "1E+300").replace(r"\ud800", "")
    status, _, reply = post("/v1/chat/completions", body.encode())
    assert status == 200 and reply.endswith(b"data: [DONE]\n\n")
    assert upstream.last().text == body


def test_a_model_that_is_left_out(upstream):
    body = NASTY.replace('"model" :  "MODEL" ,', "")
    status, _, _ = post("/v1/chat/completions", body.encode())
    assert status == 200
    received = upstream.last().text
    assert upstream.last().json["model"] == "gpt-4o-mini"
    # The one field that was added, taken away again.
    added = json.dumps("model") + ":" + json.dumps("gpt-4o-mini")
    assert received.replace(added + ",", "").replace("," + added, "") == body


def test_what_the_sdk_sends(client, upstream, tap):
    client = client.with_options(base_url=f"{tap.url}/v1")
    client.chat.completions.create(
        model="mock/ok",
        messages=[{"role": "developer", "content": "é \u2028 😀 \x7f"}, *HELLO],
        n=2,
        temperature=0,
        presence_penalty=0,
        stop=[],
        user="",
        store=False,
        logprobs=True,
        top_logprobs=0,
        metadata={},
        response_format={"type": "json_object"},
        extra_body={
            "seed": LONG,
            "enable_thinking": False,
            "thinking": {"type": "enabled"},
            "web_search": {"enable": True, "depth": 1.0},
            "chat_template_kwargs": None,
        },
    )
    (sent,) = tap.bodies()
    assert str(LONG).encode() in sent
    assert sent.count(b'"mock/ok"') == 1
    assert upstream.last().text.encode() == sent.replace(b'"mock/ok"', b'"ok"')


def test_a_large_body(client, upstream, tap):
    """A conversation of many turns, in an order of bytes that compresses badly."""
    client = client.with_options(base_url=f"{tap.url}/v1")
    turns = [{"role": "user", "content": chr(0x4E00 + i) * 97 + "\n" * 7} for i in range(2500)]
    client.chat.completions.create(model="mock/ok", messages=turns)
    (sent,) = tap.bodies()
    assert len(sent) > 700_000
    assert upstream.last().text.encode() == sent.replace(b'"mock/ok"', b'"ok"')


def test_a_nasty_reply(upstream):
    reply = r"""
      {"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"\u00e9\/\ud800"},
      "finish_reason":"sensitive"}],"created":1.0,"usage":{"prompt_tokens":1,"completion_tokens":
      123456789012345678901234567890},"extra":[1E+400,{"a":1,"a":2}], "模型":"鹊" }  """
    headers = {"content-type": "application/json; charset=utf-8"}
    upstream.script("nasty", {"body": reply, "headers": headers})
    body = json.dumps({"model": "mock/nasty", "messages": HELLO})
    status, headers, received = post("/v1/chat/completions", body)
    assert status == 200 and received.decode() == reply
    assert headers["content-type"] == "application/json; charset=utf-8"


def test_a_nasty_stream_reply(upstream):
    """Comments, ids, retry times, odd spacing, unknown fields: passed as they came."""
    delta = r'{"choices":[{"index":0,"delta":{"content":"\u00e9 é"},"finish_reason":null}],"a":1.0}'
    last = r'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"n":1E+400}'
    events = [": hello", f"data:{delta}", "retry: 10", f"id: 7\ndata:  {delta}", ": ping\n"]
    events += [f"event: message\ndata: {last}"]
    upstream.script("nasty", {"events": events})
    body = json.dumps({"model": "mock/nasty", "messages": HELLO, "stream": True})
    status, _, received = post("/v1/chat/completions", body)
    written = "".join(f"{event}\n\n" for event in [*events, "data: [DONE]"])
    assert status == 200 and received.decode() == written
