"""Keys, limits and budgets, as users of the SDK meet them: documented exceptions, with words that
help, and headers that tell how much is left."""

import os

import openai
import pytest

from processes import start_magpie
from support import HELLO, REAL_KEY, UPSTREAM

KEY = "mk-of-the-ci-system-1"


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A Magpie with keys of its own, in front of the scripted upstream."""
    config = {
        "providers": {
            "mock": {"profile": "openai-compatible", "base_url": UPSTREAM, "api_key": REAL_KEY}
        },
        "prices": {"mock/*": {"currency": "USD", "per_request": "0.01"}},
        "teams": {"search": {"budget": "$0.03/day"}},
        "keys": [
            {"name": "ci", "key": KEY, "models": ["mock/ok"]},
            {"name": "slow", "key": f"{KEY}-slow", "limits": {"rpm": 1}},
            {"name": "poor", "key": f"{KEY}-poor", "team": "search"},
        ],
    }
    folder = tmp_path_factory.mktemp("team")
    server = start_magpie(os.environ["CLIENTS_MAGPIE_BIN"], config, folder)
    yield server.url
    server.stop()


def client(url, key, retries=0):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=retries, timeout=20)


def ask(url, key, model="mock/ok", **options):
    return client(url, key).chat.completions.create(
        model=model, messages=HELLO, max_tokens=5, **options
    )


def test_a_key_lets_in_and_the_provider_never_sees_it(team, upstream):
    assert ask(team, KEY).choices[0].message.content
    (received,) = upstream.received()
    assert received.headers["authorization"] == f"Bearer {REAL_KEY}"
    assert KEY not in received.raw_headers


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_key_is_an_authentication_error(team, upstream, stream):
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(team, "mk-nobody-knows-this-one", stream=stream)
    assert refused.value.code == "invalid_api_key"
    assert not upstream.received()


def test_another_model_is_a_permission_error(team, upstream):
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ask(team, KEY, model="mock/tools")
    assert refused.value.code == "model_not_allowed"
    assert [model.id for model in client(team, KEY).models.list()] == []
    assert not upstream.received()


def test_a_limit_is_a_rate_limit_error_that_says_when(team):
    raw = client(team, f"{KEY}-slow").chat.completions.with_raw_response.create(
        model="mock/ok", messages=HELLO
    )
    assert raw.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as refused:
        ask(team, f"{KEY}-slow")
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


def test_an_exhausted_budget_is_told_once_and_not_tried_again(team, upstream):
    for _ in range(3):
        ask(team, f"{KEY}-poor")
    with pytest.raises(openai.RateLimitError) as refused:
        client(team, f"{KEY}-poor", retries=3).chat.completions.create(
            model="mock/ok", messages=HELLO, max_tokens=5
        )
    assert refused.value.code == "insufficient_quota"
    assert "$0.03 of $0.03" in str(refused.value)
    assert len(upstream.received()) == 3
