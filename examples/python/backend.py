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


def callback(call):
    action = call.get("action")
    if action == "connect":
        return connect(call["token"], call["request"])
    if action == "disconnect":
        disconnect(call["token"])
    elif action == "disconnects":  # many ends at once
        for event in call["events"]:
            disconnect(event["token"])
    else:  # a 200 would say that it was done
        return 400, {"error": f"unknown action {json.dumps(action)}"}
    return 200, {}


def connect(token, request):
    """Decides whether a stream opens. Returns the status and what the stream starts with."""
    query = parse_qs(urlsplit(request["url"]).query)
    name = query.get("name", [""])[0]  # a real backend looks at a cookie in request["headers"]
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
    connection = http.client.HTTPConnection(urlsplit(GATEWAY).netloc, timeout=30)
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

    def do_POST(self):
        # One bad request, or a gateway that is away, must not cost more than its answer.
        try:
            self.serve_post()
        except ValueError as error:
            self.answer(400, {"error": str(error)})
        except OSError as error:
            self.answer(502, {"error": str(error)})

    def serve_post(self):
        target = urlsplit(self.path)
        name = parse_qs(target.query).get("name", [""])[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if target.path == "/callback":  # for the gateway only: do not let others reach it
            call = json.loads(body)
            if not is_signed(self.headers, body):
                self.answer(401, {})
            else:
                self.answer(*callback(call))
        elif target.path == "/send":
            sent = send(name, body)
            self.answer(200 if sent else 404, {"sent": sent})
        elif target.path == "/stream":
            sent = stream(name, body.split())
            self.answer(200 if sent else 404, {"sent": sent})
        elif target.path == "/publish":
            # With retain who comes later gets it too, until there is newer news.
            status, answer = post("/internal/publish", {"topic": "news", "event": {"name": "news", "data": body}, "retain": True})
            self.answer(status, json.loads(answer))
        else:
            self.answer(404, {})

    def do_GET(self):
        with lock:
            self.answer(200, sorted(streams.values()))

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    remember()  # before it listens: a disconnect that is told of meanwhile comes again later
    server = Server(("127.0.0.1", PORT), Handler)
    print(f"listening on http://127.0.0.1:{PORT}", flush=True)
    server.serve_forever()
