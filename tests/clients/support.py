"""What the tests share: the scripted upstream's record, and the bytes a client really sent."""

import json
import os
import socket
import threading
import time
import urllib.request
from urllib.parse import urlsplit

MAGPIE = os.environ["CLIENTS_MAGPIE_URL"]
UPSTREAM = os.environ["CLIENTS_UPSTREAM_URL"]

# What a client believes to be its key, and what only the provider may see.
CLIENT_KEY = "sk-client-key"
REAL_KEY = "sk-real-secret"
# What the scripted upstream answers when nothing else is said.
TEXT = "This is the reply of a scripted upstream."
HELLO = [{"role": "user", "content": "hello"}]


def wait_until(condition, limit=5.0):
    """Waits until a condition holds and returns its value."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {limit} s in vain"
        time.sleep(0.01)
    return value


class Received:
    """A request as the provider got it."""

    def __init__(self, entry):
        self.method, self.target = entry["method"], entry["target"]
        self.headers = {name.lower(): value for name, value in entry["headers"]}
        self.raw_headers = entry["headers"]
        self.text, self.length = entry["body"], entry["body_bytes"]
        self.events_sent, self.finished = entry["events_sent"], entry["finished"]
        self.peer_left, self.left_after_ms = entry["peer_left"], entry["left_after_ms"]

    @property
    def json(self):
        return json.loads(self.text)


class Upstream:
    """The scripted upstream, seen from beside."""

    def __init__(self, url=UPSTREAM):
        self.root = url.removesuffix("/v1")

    def _call(self, method, path, value=None):
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.root + path, data=body, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as response:
            return json.load(response)

    def received(self):
        """Everything received since the test began."""
        return [Received(entry) for entry in self._call("GET", "/__record")]

    def last(self):
        """The last request received."""
        received = self.received()
        assert received, "nothing was received"
        return received[-1]

    def script(self, model, *replies):
        """Sets the replies to successive requests for a model; the last one repeats."""
        self._call("POST", "/__script", {"model": model, "replies": replies})

    def forget(self):
        """Forgets what was received and what was set."""
        self._call("DELETE", "/__record")
        self._call("DELETE", "/__script")


class Tap:
    """Stands between a client and Magpie and keeps the bytes that the client sends."""

    def __init__(self, url=MAGPIE):
        self.target = urlsplit(url)
        self.sent = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((self.target.hostname, self.target.port))
            for ends in (client, server):
                ends.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kept = bytearray()
            self.sent.append(kept)
            for source, sink, keep in ((client, server, kept), (server, client, None)):
                pump = threading.Thread(target=self._pump, args=(source, sink, keep), daemon=True)
                pump.start()

    @staticmethod
    def _pump(source, sink, keep):
        try:
            while data := source.recv(65536):
                if keep is not None:
                    keep += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def bodies(self):
        """The body of each request, connection by connection."""
        found = []
        for kept in self.sent:
            rest = bytes(kept)
            while rest:
                head, rest = rest.split(b"\r\n\r\n", 1)
                fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
                length = int(fields.get(b"content-length", b"0"))
                found.append(rest[:length])
                rest = rest[length:]
        return found

    def close(self):
        self.listener.close()
