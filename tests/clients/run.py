#!/usr/bin/env python3
"""Runs real clients against a built Magpie: SDKs, curl, LangChain, auto-coder, a real llama.cpp
server behind it, and a real Prometheus beside it.

    python3 tests/clients/run.py --magpie PATH --upstream PATH [--only NAME]

Needs python3 (3.11 or newer), node (20 or newer) with npm, curl, and PyPI and npm within reach the
first time; for Prometheus, if the machine has none, apt-get and Debian's archive. What it installs
stays in target/clients and is used again until the pinned versions change. Nothing is skipped: what cannot be installed or started fails the run.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processes import (
    Problem,
    Server,
    adopt_orphans,
    end_children,
    kill_children,
    local_environment,
    run,
    run_quietly,
    start_magpie,
)

HERE = Path(__file__).resolve().parent
WORK = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[1] / "target")).resolve() / "clients"
BASE, AUTOCODER, LLAMA, NODE = "base", "autocoder", "llama", "node"
PROMETHEUS = "prometheus"

# What can be run: its environments beside the base, its files, its limit in seconds.
SUITES = {
    "openai": ([], ["test_openai_chat.py", "test_openai_rest.py", "test_openai_faults.py",
                    "test_openai_fidelity.py", "test_openai_keys.py",
                    "test_openai_failover.py", "test_openai_sharing.py"], 180),
    "node": ([NODE], ["openai.test.mjs"], 120),
    "curl": ([], ["test_curl.py"], 90),
    "langchain": ([], ["test_langchain.py"], 60),
    "auto-coder": ([AUTOCODER], ["test_autocoder.py"], 300),
    "llamacpp": ([LLAMA], ["test_llamacpp.py"], 120),
    "prometheus": ([PROMETHEUS], ["test_prometheus.py"], 120),
}
INSTALL_LIMIT = 420


def say(text):
    print(f"clients: {text}", flush=True)


def python_of(environment):
    return WORK / environment / "bin" / "python"


def version_of(program, least):
    """Makes sure that a program is there, in a version that will do."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Problem(f"{program} is needed and does not run: {fault}") from None
    found = re.search(r"\d+(?=\.)", done.stdout)
    if done.returncode != 0 or not found or int(found[0]) < least:
        raise Problem(f"{program} {least} or newer is needed; found: {done.stdout.strip()[:80]}")
    return done.stdout


def check_tools(suites):
    if sys.version_info < (3, 11):
        raise Problem(f"python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    if "curl" in suites and "HTTP2" not in version_of("curl", 7):
        raise Problem("a curl that speaks HTTP/2 is needed")
    if "node" in suites:
        version_of("node", 20)
        version_of("npm", 9)


def installed(name, files, install):
    """Makes an environment unless the one that is there was made from the same files."""
    folder = WORK / name
    stamp = folder / "installed-from"
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update((HERE / file).read_bytes())
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    say(f"installing {name} from {' and '.join(files)}")
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        install(folder)
    except Problem as problem:
        raise Problem(f"{name} could not be installed: {problem}") from None
    stamp.write_text(digest.hexdigest())
    say(f"installed {name} in {time.monotonic() - start:.0f} s")


def install_python(requirements):
    """The listed versions are complete, so nothing is resolved; that they fit is checked."""

    def install(folder):
        run_quietly([sys.executable, "-m", "venv", folder], 60)
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input"]
        listed = ["--no-deps", "--no-compile", "--quiet", "-r", HERE / requirements]
        run_quietly([*pip, "install", *listed], INSTALL_LIMIT)
        run_quietly([*pip, "check"], 60)

    return install


def install_node(folder):
    for file in ("package.json", "package-lock.json"):
        shutil.copy(HERE / file, folder)
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    run_quietly(["npm", "ci", *flags], INSTALL_LIMIT, cwd=folder)


def install_prometheus(folder):
    """Debian's package, taken apart: nothing of the machine is changed, and no service starts."""
    download = ["apt-get", "-qq", "-o", "Acquire::Retries=2", "download", "prometheus"]
    try:
        run_quietly(download, INSTALL_LIMIT, cwd=folder)
    except Problem:
        # The lists of packages may be missing or old.
        run_quietly(["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60", "update"], INSTALL_LIMIT)
        run_quietly(download, INSTALL_LIMIT, cwd=folder)
    [package] = folder.glob("prometheus_*.deb")
    run_quietly(["dpkg", "--extract", package, folder], 60)
    package.unlink()


def prometheus_folder():
    """Where the programs of Prometheus are: the machine's own, if it has them."""
    found = [shutil.which(program) for program in ("prometheus", "promtool")]
    own = all(found) and Path(found[0]).parent == Path(found[1]).parent
    return Path(found[0]).parent if own else WORK / PROMETHEUS / "usr" / "bin"


def prepare(suites):
    """Installs what the suites need, at the same time."""
    steps = {
        BASE: (["requirements.txt"], install_python("requirements.txt")),
        AUTOCODER: (["requirements-autocoder.txt"], install_python("requirements-autocoder.txt")),
        LLAMA: (["requirements-llama.txt"], install_python("requirements-llama.txt")),
        NODE: (["package.json", "package-lock.json"], install_node),
    }
    wanted = {BASE}.union(*(SUITES[name][0] for name in suites))
    if WORK in prometheus_folder().parents:
        steps[PROMETHEUS] = ([], install_prometheus)
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(installed, name, *steps[name]) for name in steps if name in wanted]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            # The others need not go on; each thread sees its command end.
            kill_children()
            raise


def configuration(upstream):
    """One scripted upstream under several names."""
    key = "sk-real-secret"
    baidu = upstream.removesuffix("/v1") + "/llm/lmapi/v3"
    quick = {"connect": "1s", "first_event": "1s", "idle": "1s", "total": "3s"}
    listed = ["ok", "gpt-4o-mini"]
    edits = {"defaults": {"temperature": 0.6, "top_p": 0.5}, "force": {"user": "lab"}}
    plain = {"profile": "openai-compatible", "base_url": upstream, "api_key": key}
    # Targets of their own: what is known of a target is shared by all models that lead to it.
    firsts = {
        "spare-dead": "nowhere/dead",
        "spare-busy": "mock/status:503::spare",
        "spare-throttled": "mock/status:429:1:spare",
        "spare-silent": "hasty/hang:spare",
        "spare-hidden": "mock/error200:openai:spare",
        "spare-cut": "mock/cut:0:spare",
        "spare-late": "mock/cut:3:spare",
    }
    spared = {name: {"fallback": [first, "mock/ok"]} for name, first in firsts.items()}
    return {
        "providers": {
            "mock": plain | {"models": listed},
            "hasty": plain | {"timeouts": quick},
            # Goes on with an answer that another began.
            "going": plain | {"prefill": {"message": {"partial": True}}},
            "xinghe": {"base_url": baidu, "api_key": key},
            # Nobody listens there.
            "nowhere": {"profile": "openai-compatible", "base_url": "http://127.0.0.1:1/v1"},
        },
        "models": {
            "default": "mock/gpt-4o-mini",
            "fast": "mock/ok",
            "team-*": "mock/qwen-*",
            "edited": {"target": "mock/ok", "drop": ["logit_bias"]} | edits,
            "resumed": {"fallback": ["mock/cut:3:resumed", "going/events:8"], "resume": "elsewhere"},
            "single": {"target": "mock/events:20:30", "single_flight": True},
            "all-dead": {"fallback": ["nowhere/a", "nowhere/b"]},
            "all-busy": {"balance": ["mock/status:500::spare", "mock/status:502::spare"]},
        } | spared,
        "limits": {"body": "1MiB"},
    }


def run_suite(name, environment):
    """Runs one suite and says whether it passed."""
    _, files, limit = SUITES[name]
    say(f"running {name}")
    start = time.monotonic()
    if name == NODE:
        # Modules are looked for beside the file that imports them.
        tests = [shutil.copy(HERE / file, WORK / NODE) for file in files]
        command = ["node", "--test", "--test-reporter=spec", *tests]
    else:
        pytest = [python_of(BASE), "-m", "pytest", "-p", "pytest_timeout", "-q"]
        command = [*pytest, *(HERE / file for file in files)]
    try:
        passed = run(command, limit, env=environment, cwd=HERE) == 0
    except Problem as problem:
        say(str(problem))
        passed = False
    say(f"{name} {'passed' if passed else 'FAILED'} in {time.monotonic() - start:.0f} s")
    return passed


def run_suites(suites, magpie, upstream):
    logs = WORK / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="magpie-clients-"))
        scripted = Server("scripted-upstream", [upstream], logs / "scripted-upstream.log")
        stack.callback(scripted.stop)
        gateway = start_magpie(magpie, configuration(scripted.url), scratch)
        stack.callback(shutil.copy, gateway.log, logs / "magpie.log")
        stack.callback(gateway.stop)
        environment = local_environment(
            CLIENTS_MAGPIE_URL=gateway.url,
            CLIENTS_UPSTREAM_URL=scripted.url,
            CLIENTS_MAGPIE_BIN=str(magpie),
            CLIENTS_AUTOCODER_BIN=str(python_of(AUTOCODER).parent),
            CLIENTS_LLAMA_PYTHON=str(python_of(LLAMA)),
            CLIENTS_PROMETHEUS_BIN=str(prometheus_folder()),
            TMPDIR=scratch,
            PYTHONPYCACHEPREFIX=str(WORK / "pycache"),
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        )
        failed = []
        for name in suites:
            if not run_suite(name, environment):
                failed.append(name)
            for server in (scripted, gateway):
                if server.process.poll() is not None:
                    status = server.process.returncode
                    raise Problem(f"{server.name} ended with status {status} during {name}")
        if "panicked" in gateway.text():
            failed.append("magpie (it panicked)")
    if failed:
        raise Problem(f"failed: {', '.join(failed)}; logs are in {logs}")


def arguments():
    parser = argparse.ArgumentParser(description="Runs real clients against a built Magpie.")
    for name, program in (("--magpie", "magpie"), ("--upstream", "scripted-upstream")):
        parser.add_argument(name, required=True, type=Path, help=f"the program {program}")
    parser.add_argument("--only", action="append", choices=SUITES, help="run no other; repeatable")
    options = parser.parse_args()
    for program in (options.magpie, options.upstream):
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is no program")
    return options


def main():
    options = arguments()
    suites = [name for name in SUITES if name in (options.only or SUITES)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    start = time.monotonic()
    try:
        check_tools(suites)
        prepare(suites)
        run_suites(suites, options.magpie.resolve(), options.upstream.resolve())
    except Problem as problem:
        say(str(problem))
        return 1
    finally:
        end_children()
    say(f"all passed in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
