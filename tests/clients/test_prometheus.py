"""A real Prometheus that scrapes a real Magpie under load: every query of the dashboard, the rules
and the alerts returns data, and promtool takes the metrics, the rules and their tests."""

import base64
import http.client
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from processes import end_group, local_environment, start_magpie
from support import REAL_KEY, UPSTREAM, wait_until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = [DEPLOY / "prometheus" / name for name in ("magpie.rules.yml", "magpie.alerts.yml")]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/magpie.json").read_text())
BIN = Path(os.environ["CLIENTS_PROMETHEUS_BIN"])
TOKEN = "token-for-the-metrics-alone"
KEY = "mk-of-the-search-team"
# Rates are looked at over this time; the load lasts for less, so that all of it counts.
WINDOW = "2m"


def configuration():
    """Models that do all that can be counted: well, late, badly, again, elsewhere."""
    # One that is told of soon, and refuses nobody.
    budget = {"amount": "$0.01", "period": "day", "on_exhausted": "alert", "alerts": [1]}
    late = {"after": "20ms", "at_most": 100}
    seldom = {"after": "20ms", "at_most": 1}
    cut = {"fallback": ["mock/cut:3", "spare/ok"], "resume": "elsewhere"}
    mock = {"profile": "openai-compatible", "base_url": UPSTREAM, "api_key": REAL_KEY}
    return {
        "admin": {"listen": "127.0.0.1:0"},
        "metrics": {"token": TOKEN, "teams": True},
        "providers": {
            "mock": mock | {"limits": {"rpm": 100000}},
            "spare": mock | {"prefill": {"message": {"partial": True}}, "health_check": "1s"},
            "narrow": mock | {"concurrency": {"from": 1, "to": 1}},
        },
        "models": {
            "chat": {"target": "mock/ok", "mirror": "spare/ok"},
            "shaky": {"fallback": ["mock/status:503::shaky", "spare/ok"]},
            "throttled": "mock/status:429:100:throttled",
            "cut": "mock/cut:3",
            "late": {"fallback": ["mock/slow:300", "spare/ok"], "hedge": late},
            "seldom": {"fallback": ["mock/slow:40", "spare/ok"], "hedge": seldom},
            "resumed": cut,
            "busy": {"target": "narrow/slow:700", "queue": {"wait": "1s", "most": 1}},
        },
        "prices": {
            model: {"currency": "USD", "input": "1", "output": "2"}
            for model in ("mock/ok", "mock/slow:300")
        },
        "teams": {
            "search": {"budget": budget},
            "poor": {"limits": {"rpm": 1}},
        },
        "keys": [
            {"name": "ci", "key": KEY, "team": "search"},
            {"name": "poor", "key": f"{KEY}-poor", "team": "poor"},
        ],
        # Nobody is there to say what its keys are, which is Magpie's own affair.
        "jwt": [
            {
                "issuer": "https://login.example.com/",
                "audience": "magpie",
                "algorithm": "RS256",
                "jwks_url": "http://127.0.0.1:1/keys",
            }
        ],
    }


def a_token_of_the_issuer():
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"iss": "https://login.example.com/", "aud": "magpie", "exp": 4102444800, "sub": "a"}
    return f"{part({'alg': 'RS256', 'kid': 'k', 'typ': 'JWT'})}.{part(claims)}.{part('signature')}"


def ask(url, model, key=KEY, stream=False, **more):
    """Asks a model, and reads what comes, whatever it is. Returns the status."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    body = {"model": model, "stream": stream, "max_tokens": 50}
    body["messages"] = [{"role": "user", "content": "hello"}]
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"} | more
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        try:
            response.read()
        except http.client.IncompleteRead:
            pass
        return response.status
    finally:
        connection.close()


class Load(threading.Thread):
    """One round of everything after the other, until it is stopped."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.over, self.rounds, self.fault = url, threading.Event(), 0, None

    def run(self):
        token = a_token_of_the_issuer()
        calls = [("chat", KEY), ("shaky", KEY), ("throttled", KEY), ("cut", KEY), ("late", KEY)]
        calls += [("seldom", KEY), ("resumed", KEY), ("none", KEY), ("chat", f"{KEY}-poor"), ("spare/ok", KEY), ("chat", token)]
        try:
            while not self.over.is_set():
                for model, key in calls:
                    for stream in (False, True):
                        ask(self.url, model, key, stream)
                ask(self.url, "chat", **{"idempotency-key": "always-the-same"})
                # More than may wait, and one that waits until it may go.
                with ThreadPoolExecutor(4) as clients:
                    list(clients.map(lambda _: ask(self.url, "busy"), range(4)))
                self.rounds += 1
                self.over.wait(0.1)
        except OSError as fault:
            self.fault = fault

    def stop(self):
        self.over.set()
        if self.is_alive():
            self.join(30)


class Prometheus:
    """Debian's Prometheus with our rules, scraping often."""

    def __init__(self, folder, target):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
        token = folder / "token"
        token.write_text(TOKEN)
        [job] = config["scrape_configs"]
        job["authorization"]["credentials_file"] = str(token)
        job["static_configs"] = [{"targets": [target]}]
        for rules in RULES:
            shutil.copy(rules, folder)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        promtool("check", "config", folder / "prometheus.yml")
        self.log = folder / "prometheus.log"
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                [BIN / "prometheus", f"--config.file={folder / 'prometheus.yml'}",
                 f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={self.address}",
                 "--log.level=warn"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=local_environment(), start_new_session=True,
            )

    def get(self, path, **parameters):
        """What its API says; nothing as long as it is not up."""
        query = urllib.parse.urlencode(parameters)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{self.address}{path}?{query}", timeout=20) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as fault:
            if fault.code == 503:
                return None
            raise AssertionError(f"{parameters}: {fault.read().decode()}") from None
        except OSError:
            return None

    def query(self, expression):
        """The values of a query that are numbers."""
        found = self.get("/api/v1/query", query=expression)
        values = [float(sample["value"][1]) for sample in found["result"]] if found else []
        return [value for value in values if not math.isnan(value)]


def promtool(*arguments, **options):
    command = [str(part) for part in (BIN / "promtool", *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def magpie(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    server = start_magpie(os.environ["CLIENTS_MAGPIE_BIN"], configuration(), folder)
    yield server
    server.stop()


def admin(magpie):
    return re.search(r"admin API\s+http://(\S+?)/", magpie.text())[1]


def scrape(magpie, accept):
    headers = {"accept": accept, "authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"http://{admin(magpie)}/metrics", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as response:
        return response.headers["content-type"], response.read().decode()


@pytest.fixture(scope="module")
def loaded(magpie, tmp_path_factory):
    """Both under load, until the rules have been worked out from several scrapes of it."""
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), admin(magpie))
    load = Load(magpie.url)
    try:
        # One scrape before the load: what begins at some number cannot be seen to grow.
        wait_until(lambda: prometheus.query("up == 1"), 20)
        load.start()
        wait_until(lambda: load.rounds >= 3, 30)
        os.kill(magpie.process.pid, signal.SIGHUP)
        recorded = [rule["record"] for rule in rules() if "record" in rule]
        for name in recorded:
            wait_until(lambda name=name: prometheus.query(name), 30)
        wait_until(lambda: prometheus.query('ALERTS{alertname="MagpieProviderFails"}'), 30)
        assert load.fault is None and load.rounds >= 3
        yield prometheus
    finally:
        load.stop()
        print(prometheus.log.read_text()[-4000:])
        end_group(prometheus.process)


def rules():
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def queries():
    """Every query there is, by where it stands. Of one that compares, what it says whether or not
    that holds: an alert that does not fire has no data, and its parts have."""
    found = {}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']}/{target['refId']}"] = target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        found[annotation["name"]] = annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            form = r"label_values\((\w+), (\w+)\)"
            metric, label = re.fullmatch(form, variable["definition"]).groups()
            found[f"variable {label}"] = f"count by ({label}) ({metric}{{{label}!=\"\"}})"
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = rule["expr"]
        else:
            found[rule["alert"]] = re.sub(r" (>=|==|>|<) ", r" \1 bool ", rule["expr"])
    return found


def filled_in(query):
    """A query of the dashboard as Grafana sends it, with everything chosen."""
    query = query.replace("$__rate_interval", WINDOW)
    return re.sub(r"\$(instance|model|provider|team)\b", ".*", query)


def test_the_metrics_are_what_promtool_and_both_formats_want(magpie, loaded):
    kind, text = scrape(magpie, "text/plain;version=0.0.4")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    promtool("check", "metrics", input=text)
    kind, text = scrape(magpie, "application/openmetrics-text;version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    # It is what Prometheus asks for, and has read.
    assert loaded.query("up") == [1.0]
    assert loaded.query("scrape_samples_scraped")[0] > 100


def test_every_metric_has_samples_under_load(magpie, loaded):
    _, text = scrape(magpie, "text/plain")
    names = re.findall(r"^# TYPE (\S+)", text, re.M)
    assert len(names) > 50
    empty = [name for name in names if not re.search(rf"^{name}(_count)?[ {{]", text, re.M)]
    assert empty == []
    help_ = re.findall(r"^# HELP (\S+) \S", text, re.M)
    assert help_ == names


@pytest.mark.parametrize("name", queries())
def test_every_query_returns_data(name, loaded):
    query = filled_in(queries()[name])
    assert "$" not in query
    wait_until(lambda: loaded.query(query), 10)
    # A query for what does not exist may still return something, by `or`.
    known = set(loaded.get("/api/v1/label/__name__/values"))
    named = set(re.findall(r"\b(?:[a-z_]+:)?(?:magpie|process)_[a-z0-9_:]+", query))
    assert named <= known, named - known


def test_what_prometheus_reckons_is_what_happened(loaded):
    def one(query):
        [value] = loaded.query(query)
        return value

    assert one('sum(magpie_fallbacks_total{model="shaky",provider="spare"})') > 0
    assert one('sum(magpie_fallbacks_total{model="late",provider="spare"})') > 0
    assert one('sum(magpie_overtaken_attempts_total{model="late",provider="mock"})') > 0
    late = 'model="late"'
    begun = one(f"sum(magpie_side_by_side_attempts_total{{{late}}})")
    assert begun >= one(f"sum(magpie_side_by_side_won_total{{{late}}})") > 0
    assert one(f"sum(magpie_overtaken_cost_total{{{late}}})") > 0
    assert one('sum(magpie_hedges_withheld_total{model="seldom"})') > 0
    assert one('sum(magpie_shared_answers_total{model="chat",how="replayed"})') > 0
    assert one('sum(magpie_broken_answers_total{model="resumed",end="resumed"})') > 0
    assert one('sum(magpie_queue_requests_total{model="busy",end="full"})') > 0
    assert one('sum(magpie_queue_requests_total{model="busy",end="admitted"})') > 0
    assert one('max(magpie_credential_window{provider="narrow"})') == 1
    assert one('max(magpie_provider_up{provider="spare"})') == 1
    assert one('sum(magpie_mirrored_requests_total{model="chat",end="compared"})') > 0
    assert one('sum(magpie_errors_total{error="issuer_unavailable",blame="magpie"})') > 0
    assert one('sum(magpie_errors_total{error="model_not_found",blame="caller"})') > 0
    assert one('sum(magpie_streams_total{model="cut",outcome="truncated"})') > 0
    assert one('sum(magpie_rejections_total{holder="team",limit="rpm"})') > 0
    throttled = 'upstream_model="status:429:100:throttled"'
    assert one(f"max(magpie_target_credentials_benched{{{throttled}}})") == 1
    shaky = 'upstream_model="status:503::shaky"'
    assert one(f"max_over_time(magpie_target_breaker_state{{{shaky}}}[2m])") == 2
    # A million tokens of input cost a dollar, of output two.
    chat = 'model="chat",team="search"'
    cost, tokens = one(f"sum(magpie_cost_total{{{chat}}})"), one(f"sum(magpie_tokens_total{{{chat}}})")
    assert tokens * 0.9e-6 < cost < tokens * 2e-6
    # Alerts that should fire do, or are about to.
    for alert in ("MagpieFails", "MagpieProviderFails"):
        assert loaded.query(f'ALERTS{{alertname="{alert}"}}'), alert
    assert loaded.query('ALERTS{alertname="MagpieLedgerNotWritable"}') == []


def test_promtool_takes_the_rules_and_their_tests():
    folder = DEPLOY / "prometheus"
    promtool("check", "rules", *RULES)
    told = promtool("test", "rules", folder / "magpie.test.yml", cwd=folder)
    assert "SUCCESS" in told
    tests = yaml.safe_load((folder / "magpie.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    tested = {case["alertname"] for case in cases if case["exp_alerts"]}
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert alerts == tested, "every alert is seen to fire"
