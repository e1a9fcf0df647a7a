"""A backend that has its event streams held by a gateway. Python, standard library.

It answers the gateway's callbacks, remembers which streams are whose, and reaches
them with plain HTTP requests to the gateway.
"""

import base64
import hmac
import http.client
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PORT = int(os.environ.get("PORT", "8000"))
GATEWAY = os.environ.get("GATEWAY", "http://127.0.0.1:3000")
SECRET = os.environ.get("CALLBACK_SIGNING_SECRET", "").removeprefix("whsec_")  # without one anybody is believed

MAX_BODY = 2 << 20  # bytes: many ends at once take up to 1 MiB

lock = threading.Lock()
streams = {}  # token of an open stream: whose it is


def remember():
    """Gets the streams that were opened before this process began. Without the gateway it waits: it cannot know."""
    cursor = ""
    while cursor is not None:
        try:
            status, page = ask("GET", f"/internal/connections?cursor={cursor}")
            if status != 200:
                raise OSError(f"the gateway answered {status}: {page.decode()}")
        except OSError as error:
            print(f"waiting for the gateway: {error}", flush=True)
            time.sleep(1)
            continue
        page = json.loads(page)
        streams.update((c["token"], c["subject"]) for c in page["connections"] if c["state"] == "open")
        cursor = page.get("next_cursor")


# What the gateway asks and tells.

def is_signed(headers, body):
    """Whether a callback comes from the gateway, and is not an old one again (https://www.standardwebhooks.com)."""
    if not SECRET:
        return True
    sent = headers.get("webhook-timestamp", "")
    signed = f"{headers.get('webhook-id')}.{sent}.{body}".encode()
    signature = b"v1," + base64.b64encode(hmac.digest(base64.b64decode(SECRET), signed, "sha256"))
    given = headers.get("webhook-signature", "").encode().split()
    return sent.isdecimal() and abs(time.time() - int(sent)) < 300 and any(hmac.compare_digest(signature, s) for s in given)


def callback(body):
    """Answers a callback. A ValueError is a body that is none."""
    try:
        call = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    action = member(call, "action", object)
    if action == "connect":
        return connect(member(call, "token", str), member(member(call, "request", dict), "url", str))
    if action == "disconnect":
        disconnect(member(call, "token", str))
    elif action == "disconnects":  # many ends at once
        for event in member(call, "events", list):
            disconnect(member(event, "token", str))
    else:  # a 200 would say that it was done
        return 400, {"error": f"unknown action {json.dumps(action)}"}
    return 200, {}


def member(value, name, kind):
    """A member of a callback, which has to be of that kind."""
    value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"a callback without its {name}")
    return value


def connect(token, url):
    """Decides whether a stream opens. Returns the status and what the stream starts with."""
    query = parse_qs(urlsplit(url).query)
    name = query.get("name", [""])[0]  # a real backend looks at a cookie in the request's headers
    if not name:
        return 401, {}
    with lock:
        streams[token] = name
    return 200, {
        "subject": name,
        "topics": ["news"],
        "events": [{"name": "welcome", "data": f"Hello, {name}"}],
    }


def disconnect(token):
    """Forgets a stream. The gateway may tell it twice, which does no harm."""
    with lock:
        streams.pop(token, None)


# What this backend does with the gateway.

def post(path, body, content_type="application/json"):
    """POSTs to the gateway: a dict as JSON, or an iterator of bytes as it yields them."""
    return ask("POST", path, json.dumps(body).encode() if isinstance(body, dict) else body, content_type)


def ask(method, path, body=None, content_type="application/json"):
    connection = http.client.HTTPConnection(urlsplit(GATEWAY).netloc, timeout=10)
    try:
        try:
            connection.request(method, path, body, {"Content-Type": content_type})
        except (BrokenPipeError, ConnectionResetError):
            pass  # answered before the end of the body: the reader has left
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def send(name, text):
    """Sends to each of a user's streams, and says to how many."""
    sent = 0
    for token in tokens(name):
        status, _ = post("/internal/send", {"token": token, "event": {"name": "note", "data": text}})
        if status == 404:
            disconnect(token)  # it has just ended
        sent += status == 200
    return sent


def stream(name, words):
    """Streams the words to each of a user's streams: one request carries all events."""
    events = lambda: (json.dumps({"name": "word", "data": word}).encode() + b"\n" for word in words)
    answers = [post(f"/internal/connections/{token}/stream", events(), "application/x-ndjson") for token in tokens(name)]
    return sum(status == 200 for status, _ in answers)


def tokens(name):
    with lock:
        return [token for token, whose in streams.items() if whose == name]


# The application's own HTTP server.

class Server(ThreadingHTTPServer):
    request_queue_size = 128  # callbacks may come many at once


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def serve(self):
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.close_connection = True  # nobody knows where the next request begins
            self.answer(411, {"error": "a body without its length"})
            return
        body = self.rfile.read(min(int(length), MAX_BODY))
        if int(length) > MAX_BODY:
            self.skip(int(length) - MAX_BODY)
            self.answer(413, {"error": "the body is too large"})
            return
        # One bad request, or a gateway that is away, must not cost more than its answer.
        try:
            self.answer(*self.handle_request(body.decode()))
        except ValueError as error:
            self.answer(400, {"error": str(error)})
        except (OSError, http.client.HTTPException) as error:
            print(f"the gateway cannot be reached: {error!r}", flush=True)
            self.answer(502, {"error": str(error)})

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def handle_request(self, body):
        target = urlsplit(self.path)
        name = parse_qs(target.query).get("name", [""])[0]
        match f"{self.command} {target.path}":
            case "POST /callback":  # for the gateway only: do not let others reach it
                return callback(body) if is_signed(self.headers, body) else (401, {})
            case "POST /send":
                sent = send(name, body)
                return 200 if sent else 404, {"sent": sent}
            case "POST /stream":
                sent = stream(name, body.split())
                return 200 if sent else 404, {"sent": sent}
            case "POST /publish":
                # With retain who comes later gets it too, until there is newer news.
                status, answer = post("/internal/publish", {"topic": "news", "event": {"name": "news", "data": body}, "retain": True})
                return status, json.loads(answer)
            case "GET /streams":
                with lock:
                    return 200, sorted(streams.values())
        return 404, {}

    def skip(self, length):
        """Reads the rest of a body, so that the client gets its answer."""
        while length > 0 and (piece := self.rfile.read(min(length, 65536))):
            length -= len(piece)

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    remember()  # before it listens: a disconnect that is told of meanwhile comes again later
    server = Server(("127.0.0.1", PORT), Handler)
    print(f"listening on http://127.0.0.1:{PORT}", flush=True)
    server.serve_forever()
