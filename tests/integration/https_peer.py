# SPDX-License-Identifier: MIT
"""A DPS over HTTPS that answers correctly, except for the answers that it is given: whole bytes, or functions."""
import json
import socket
import ssl
import threading

from process import DEADLINE

OPERATION = "5.b1c2d3e4f5a60718.1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f9"
ASSIGNED = {"operationId": OPERATION, "status": "assigned", "registrationState": {
    "registrationId": "gateway", "status": "assigned", "assignedHub": "hub-1.example", "deviceId": "gateway"}}
ASSIGNING = {"operationId": OPERATION, "status": "assigning"}


class Request:
    def __init__(self, head, body):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = first.split(" ")
        self.headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        self.body = body


def message(status, document, *headers, reason="Whatever", version="HTTP/1.1"):
    body = json.dumps(document).encode() if isinstance(document, dict) else document
    lines = [f"{version} {status} {reason}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(status, document, *headers):
    body = json.dumps(document).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    lines = [f"HTTP/1.1 {status} OK", "Transfer-Encoding: chunked", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + chunks


class HttpsPeer:
    """answers: what the next requests get, as bytes or as a function of the TLS socket; all others get the right answer. A
    connection is closed after an answer that is in `closing`."""

    def __init__(self, pki, kind="good"):
        self.context = pki.context(kind)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answers, self.requests, self.n_connections, self.n_open = [], [], 0, 0
        self.closes_after_each = False
        self.is_over = threading.Event()
        self.changed = threading.Condition()
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.is_over.set()
        self.listener.close()

    def accept(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            self.n_connections += 1
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        plain.settimeout(2 * DEADLINE)
        self.n_open += 1
        try:
            with self.context.wrap_socket(plain, server_side=True) as connection:
                while self.converse(connection) and not self.closes_after_each:
                    pass
        except (OSError, ssl.SSLError, ValueError):
            plain.close()
        with self.changed:
            self.n_open -= 1
            self.changed.notify_all()

    def converse(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return False
            data += part
        head, body = data.split(b"\r\n\r\n", 1)
        request = Request(head, b"")
        while len(body) < int(request.headers.get("content-length", 0)):
            body += connection.recv(65536)
        request.body = body
        with self.changed:
            self.requests.append(request)
            answer = self.answers.pop(0) if self.answers else self.right_answer(request)
            self.changed.notify_all()
        if callable(answer):
            answer(connection)
            return False
        connection.sendall(answer)
        return True

    def right_answer(self, request):
        if request.method == "PUT":
            return message(202, ASSIGNING, "Retry-After: 0")
        return message(200, ASSIGNED)

    def wait_for_requests(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= n, 2 * DEADLINE), f"there are {len(self.requests)} requests"

    def wait_until_alone(self):
        with self.changed:
            assert self.changed.wait_for(lambda: self.n_open == 0, 2 * DEADLINE), "the connection stays open"
