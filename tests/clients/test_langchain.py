"""LangChain's ChatOpenAI."""

import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from support import CLIENT_KEY, MAGPIE, TEXT


@pytest.fixture
def model():
    def make(name):
        return ChatOpenAI(
            model=name, base_url=f"{MAGPIE}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=20
        )

    return make


def test_chat(model, upstream):
    reply = model("mock/ok").invoke("hello")
    assert reply.content == TEXT
    assert reply.usage_metadata["total_tokens"] == 19
    assert upstream.last().json["messages"] == [{"content": "hello", "role": "user"}]


def test_stream(model):
    chunks = list(model("mock/events:6").stream("hello"))
    texts = [chunk.content for chunk in chunks if chunk.content]
    assert texts == [f"w{number} " for number in range(1, 7)]


def test_tools(model):
    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return city

    reply = model("mock/tools").bind_tools([weather]).invoke("hello")
    assert [call["name"] for call in reply.tool_calls] == ["weather"]
    assert set(reply.tool_calls[0]["args"]) == {"city"}


def test_a_cut_stream_raises(model):
    with pytest.raises(Exception, match="middle of the answer"):
        list(model("mock/cut:3").stream("hello"))
