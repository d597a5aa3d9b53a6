"""auto-coder, set up by the commands its users give, asked for code; the scripted upstream plays
the model."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from processes import local_environment
from support import CLIENT_KEY, Tap

PROGRAM = Path(os.environ["CLIENTS_AUTOCODER_BIN"]) / "auto-coder.run"
CODE = '"""鹊桥 é \\u00e9 \\\\ \'"""\n\n\ndef add(a: int, b: int) -> int:\n\treturn a + b\n'
DONE = "Created sum.py."

# It imports for many seconds on a busy machine, and each command is a process of its own.
pytestmark = pytest.mark.timeout(240)


class AutoCoder:
    """auto-coder in a home and a project of its own."""

    def __init__(self, home, project):
        self.project = project
        path = f"{PROGRAM.parent}:{os.environ['PATH']}"
        self.environment = local_environment(HOME=str(home), GATEWAY_KEY=CLIENT_KEY, PATH=path)

    def run(self, *arguments):
        done = subprocess.run(
            [str(PROGRAM), *arguments],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def line():
    """The one address that auto-coder is told of, for all tests."""
    tap = Tap()
    yield tap
    tap.close()


@pytest.fixture(scope="module")
def home(line, tmp_path_factory):
    """A home in which the model is set up."""
    home = tmp_path_factory.mktemp("home")
    autocoder = AutoCoder(home, home)
    autocoder.run(
        *("models", "add", "magpie", "model_name=mock/coder", "model_type=saas/openai"),
        *(f"base_url={line.url}/v1", "provider=magpie", "input_price=1", "output_price=1"),
    )
    autocoder.run("models", "activate", "magpie", "api_key_env=GATEWAY_KEY")
    return home


@pytest.fixture
def autocoder(home, line, tmp_path):
    line.sent.clear()
    return AutoCoder(home, tmp_path)


def call(name, **arguments):
    """A reply that calls a tool."""
    text = json.dumps(arguments, ensure_ascii=False)
    return {"message": {"content": "", "tool_calls": [{"name": name, "arguments": text}]}}


def write_and_finish(upstream):
    """The model writes a file, then says that it is done."""
    write = call("write_to_file", path="sum.py", content=CODE)
    upstream.script("coder", write, call("attempt_completion", result=DONE))


def check_requests(upstream, line):
    """Every request went through Magpie as auto-coder wrote it, but for the model's name."""
    received = upstream.received()
    assert len(received) == 2
    sent = [body for body in line.bodies() if body]
    for before, after in zip(sent, received, strict=True):
        assert before.count(b'"mock/coder"') == 1
        assert after.text.encode() == before.replace(b'"mock/coder"', b'"coder"')
        asked = after.json
        assert asked["stream"] is True
        assert asked["stream_options"] == {"include_usage": True}
        assert asked["temperature"] == 0.7 and asked["max_tokens"] == 8096
        names = {tool["function"]["name"] for tool in asked["tools"]}
        assert {"write_to_file", "attempt_completion", "execute_command"} <= names
        assert after.finished and after.headers["user-agent"].startswith("AsyncOpenAI/Python")
    # The second request tells the model what its tool did, arguments untouched.
    messages = received[1].json["messages"]
    (made,) = [message for message in messages if message.get("tool_calls")]
    arguments = made["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"path": "sum.py", "content": CODE}
    (result,) = [message for message in messages if message["role"] == "tool"]
    assert result["tool_call_id"] == made["tool_calls"][0]["id"]


def test_it_writes_the_code(autocoder, upstream, line):
    write_and_finish(upstream)
    said = autocoder.run(
        *("--model", "magpie", "--output-format", "stream-json"),
        "Write sum.py with a function that adds two numbers.",
    )
    assert (autocoder.project / "sum.py").read_text() == CODE
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert events[0]["event_type"] == "conversation_id"
    assert events[-1]["event_type"] == "completion"
    assert events[-1]["data"]["result"] == DONE
    check_requests(upstream, line)


def test_it_answers_in_text(autocoder, upstream, line):
    write_and_finish(upstream)
    said = autocoder.run("--model", "magpie", "Write sum.py.")
    assert DONE in said
    assert (autocoder.project / "sum.py").read_text() == CODE
    check_requests(upstream, line)


def test_a_question(autocoder, upstream):
    upstream.script("coder", {"message": {"content": "Two magpies."}})
    assert "Two magpies." in autocoder.run("models", "chat", "magpie", "How many?")
