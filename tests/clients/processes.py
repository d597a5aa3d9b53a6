"""Starting, watching and ending the processes of a run. Standard library only."""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class Problem(Exception):
    """Why a run cannot go on, in words for a person."""


def local_environment(**extra):
    """The environment for processes that talk to this machine only: no proxy, no provider key, no
    settings of other Pythons or of another Magpie."""
    strange = re.compile(
        r"(?i)(.*_API_KEY|.*_BASE_URL|(http|https|all|no)_proxy"
        r"|(MAGPIE|OPENAI|PYTEST|NODE)_.*|PYTHON(?!PYCACHEPREFIX).*)"
    )
    kept = {name: value for name, value in os.environ.items() if not strange.fullmatch(name)}
    return kept | {"NO_PROXY": "*"} | extra


class Server:
    """A process that prints its address and serves until it is stopped."""

    def __init__(self, name, command, log, limit=20):
        self.name, self.log = name, Path(log)
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=local_environment(),
                start_new_session=True,
            )
        try:
            self.url = self._address(limit)
        except Problem:
            self.stop()
            raise

    def _address(self, limit):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            found = re.search(r"(http://\S+)\s", self.text())
            if found:
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise Problem(f"{self.name} did not start; it said:\n{self.text()[-4000:]}")

    def text(self):
        """Everything it has written so far."""
        return self.log.read_text(errors="replace")

    def entries(self):
        """The whole lines of it that are JSON objects."""
        *lines, _ = self.text().split("\n")
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self):
        end_group(self.process)


def start_magpie(program, config, folder, name="magpie"):
    """Starts Magpie on a free port with a configuration (JSON is YAML)."""
    file = Path(folder) / f"{name}.yaml"
    own = {
        "listen": "127.0.0.1:0",
        "data": str(Path(folder) / f"{name}-data"),
        "admin": {"enabled": False},
    }
    file.write_text(json.dumps(own | config, indent=2))
    return Server(name, [program, "--config", file], Path(folder) / f"{name}.log")


def end_group(process):
    """Kills a process with everything in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(command, limit, **options):
    """Runs a command to its end and returns its status; kills it after `limit` seconds."""
    command = [str(part) for part in command]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, **options
    )
    try:
        return process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        raise Problem(f"not done after {limit} s: {' '.join(command)}") from None
    finally:
        end_group(process)


def run_quietly(command, limit, **options):
    """Runs a command whose output only matters when it fails."""
    with tempfile.TemporaryFile() as output:
        status = run(command, limit, stdout=output, stderr=subprocess.STDOUT, **options)
        if status != 0:
            output.seek(0)
            said = output.read().decode(errors="replace")[-4000:]
            command = " ".join(str(part) for part in command)
            raise Problem(f"status {status} from: {command}\n{said}")


def adopt_orphans():
    """Makes this process the parent of whatever its children leave behind (Linux)."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def children():
    """The processes whose parent this process is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(stat.parent.name))
    return found


def kill_children():
    """Kills every child, for others to wait for, and returns them."""
    killed = children()
    for child in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return killed


def end_children():
    """Kills every child, and then the children that they leave behind."""
    deadline = time.monotonic() + 10
    while (killed := kill_children()) and time.monotonic() < deadline:
        for child in killed:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
