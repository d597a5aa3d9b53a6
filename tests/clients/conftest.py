"""Fixtures. Whatever a test does, no client's key may reach the provider."""

import openai
import pytest

from support import CLIENT_KEY, MAGPIE, REAL_KEY, Tap, Upstream


@pytest.fixture
def upstream():
    """The scripted upstream, with nothing in its memory."""
    upstream = Upstream()
    upstream.forget()
    return upstream


@pytest.fixture(autouse=True)
def keys_stay_where_they_belong(request, upstream):
    """After each test: every request came with the provider's key, and with none of the client's
    secrets."""
    yield
    for received in upstream.received():
        whole = f"{received.target} {received.raw_headers} {received.text}"
        assert CLIENT_KEY not in whole
        assert "cookie" not in received.headers
        assert received.headers.get("authorization") == f"Bearer {REAL_KEY}"


@pytest.fixture
def client():
    """The OpenAI SDK, set up as its users would, but without retries."""
    with openai.OpenAI(
        base_url=f"{MAGPIE}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture
def tap():
    """A listener in front of Magpie that keeps what the client sends."""
    tap = Tap()
    yield tap
    tap.close()
