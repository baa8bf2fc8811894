# SPDX-License-Identifier: MIT
"""The hostile peer: a DPS that answers correctly, except for the faults that it is given, down to single bytes.

Faults are a dict. A key is a stage of the conversation, and its value is what the peer does there instead of the right thing:

    syn        a connection arrives ("ignored" or "refused", not a function)
    accept     a connection is open                    hello      the first bytes of the client's handshake are there
    flight     the server's answer is made, not sent   connect, subscribe, register, poll      such a packet came

The value is a function of session and request, such as those below. mend() ends all faults.
"""
import collections
import copy
import json
import os
import selectors
import socket
import ssl
import struct
import threading
import time

from process import DEADLINE

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14
REQUESTS = ("open", "connect", "subscribe", "register", "poll")  # the events that a client causes
RESPONSES = "$dps/registrations/res"
TRACKING_ID = "8ad0463c-6427-4479-9dfa-3e8bb7003e9b"
OPERATION = "4.d0a671905ea5b2c8.42d78160-4c78-479e-8be7-61d5e55dac0d"


class Gone(Exception):
    """The conversation is over."""


Event = collections.namedtuple("Event", "at session what detail")  # at: time.monotonic()
Told = collections.namedtuple("Told", "at realtime retry_after")


# MQTT 3.1.1

def packet(kind, body=b"", flags=0):
    size, length = b"", len(body)
    while not size or length:
        length, digit = divmod(length, 128)
        size += bytes([digit | (0x80 if length else 0)])
    return bytes([kind << 4 | flags]) + size + body


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(value)) + value


def connack(code=0, session_present=0):
    return packet(CONNACK, bytes([session_present, code]))


def publish(topic, body=b"", qos=1, mid=1):
    return packet(PUBLISH, text(topic) + (struct.pack(">H", mid) if qos else b"") + body, qos << 1)


class Request:
    """A packet from the client, parsed."""

    def __init__(self, kind, flags, body):
        self.what = {CONNECT: "connect", SUBSCRIBE: "subscribe", PUBLISH: "publish", PUBACK: "puback", PINGREQ: "ping",
                     DISCONNECT: "disconnect"}.get(kind, str(kind))
        self.detail = {}
        self.mid = self.rid = 0
        self.qos = flags >> 1 & 3
        self.rest = body
        if kind == CONNECT:
            self.rest = body[10:]
            names = ["client_id", *(["username"] if body[7] & 0x80 else []), *(["password"] if body[7] & 0x40 else [])]
            self.detail = {name: self.take() for name in names} | {"level": body[6], "clean": body[7] >> 1 & 1}
        elif kind == SUBSCRIBE:
            self.mid = self.take_mid()
            self.detail = {"filter": self.take(), "qos": self.rest[0]}
        elif kind == PUBLISH:
            self.take_publish()

    def take(self):
        size = struct.unpack(">H", self.rest[:2])[0]
        value, self.rest = self.rest[2:2 + size].decode(), self.rest[2 + size:]
        return value

    def take_mid(self):
        mid, self.rest = struct.unpack(">H", self.rest[:2])[0], self.rest[2:]
        return mid

    def take_publish(self):
        topic = self.take()
        self.mid = self.take_mid() if self.qos else 0
        if topic.startswith("$dps/registrations/PUT/iotdps-register/?"):
            self.what = "register"
        elif topic.startswith("$dps/registrations/GET/iotdps-get-operationstatus/?"):
            self.what = "poll"
        parameters = dict(part.split("=", 1) for part in topic.partition("?")[2].split("&") if "=" in part)
        self.rid = parameters.get("$rid", "")
        self.detail = {"topic": topic, "rid": self.rid, "operation": parameters.get("operationId"), "body": self.rest}


# What the peer can do at a stage

def good(session, request):
    """Gives the right answer."""
    session.answer(request)


def nothing(session, request):
    """Does nothing."""


def silence(session, request):
    """Keeps receiving, but sends nothing any more."""
    session.is_deaf = True
    while not session.tls:
        session.receive_raw()


def close(session, request):
    raise Gone("closed")


def goodbye(session, request):
    """Closes the connection with the alert that TLS demands."""
    try:
        session.tls.unwrap()
    except ssl.SSLError:
        session.flush()  # does not wait for the client's alert
    raise Gone("closed")


def reset(session, request):
    session.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Gone("reset")


def half_close(session, request):
    session.is_deaf = True
    session.tcp.shutdown(socket.SHUT_WR)
    while True:
        session.receive_raw()


def both(*actions):
    def do(session, request):
        for action in actions:
            action(session, request)
    return do


def once(action, then=good):
    """Does `action` the first time, and `then` every other time."""
    def do(session, request):
        session.peer.n_done += 1
        (action if session.peer.n_done == 1 else then)(session, request)
    return do


def raw(data):
    """Sends bytes, through TLS if the connection has it."""
    def do(session, request):
        session.send(data)
    return do


def beneath(data):
    """Sends bytes on the TCP connection, without TLS."""
    def do(session, request):
        session.send_raw(data)
    return do


def half_flight(session, request):
    session.send_raw(request[:len(request) // 2])


def trickle(action, seconds):
    """Sends slowly: one byte every `seconds`."""
    def do(session, request):
        session.pace = seconds
        action(session, request)
    return do


def after(seconds, action):
    def do(session, request):
        session.wait(seconds)
        action(session, request)
    return do


def endlessly(seconds, action):
    """Repeats `action` until the peer is mended or the client closes the connection."""
    def do(session, request):
        while session.peer.faults:
            action(session, request)
            session.wait(seconds)
    return do


def acknowledge(session, request):
    """Sends only the PUBACK."""
    if request.qos:
        session.send(packet(PUBACK, struct.pack(">H", request.mid)))


def right_reply(session, request):
    """Sends the right response without the PUBACK."""
    session.respond(request, *session.right_reply(request))


def in_one_go(*actions):
    """Sends everything that the actions send in one TLS record."""
    def do(session, request):
        session.held = b""
        both(*actions)(session, request)
        data, session.held = session.held, None
        session.send(data)
    return do


def stale(action):
    """Answers as if to an earlier request."""
    def do(session, request):
        earlier = copy.copy(request)
        earlier.rid = str(int(request.rid) - 1)
        action(session, earlier)
    return do


def reply(status, body=None, **more):
    """Sends a response without a PUBACK before it; more arguments are those of Session.respond()."""
    def do(session, request):
        session.respond(request, status, body, **more)
    return do


def answer(status, body=None, **more):
    """Sends a PUBACK, and then a response."""
    return both(acknowledge, reply(status, body, **more))


def assigning(retry_after=0):
    return answer(202, {"operationId": OPERATION, "status": "assigning"}, retry_after=retry_after)


def assigned(hub="evil.example", device_id="evil", status="assigned", **more):
    return {"operationId": OPERATION, "status": status,
            "registrationState": {"registrationId": "x", "assignedHub": hub, "deviceId": device_id, "status": status,
                                  "substatus": "initialAssignment", "errorCode": None, "unheardOf": [{}]} | more}


def error_body(code, message="as ordered"):
    return {"errorCode": code, "trackingId": TRACKING_ID, "message": message,
            "timestampUtc": "2020-04-10T05:24:22.4718526Z"}


def failed(code=None, message="as ordered"):
    return {"operationId": OPERATION, "status": "failed",
            "registrationState": {"status": "failed", "errorMessage": message} | ({"errorCode": code} if code else {})}


class Session(threading.Thread):
    """One connection."""

    def __init__(self, peer, tcp, number):
        super().__init__(daemon=True)
        self.peer, self.tcp, self.number = peer, tcp, number
        self.pace = peer.pace
        self.tls, self.incoming, self.outgoing = None, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.is_deaf = self.is_subscribed = False
        self.unread, self.held = b"", None
        self.mid = 0
        self.may_poll_at = time.monotonic()

    def note(self, what, **detail):
        self.peer.note(self.number, what, detail)

    def run(self):
        self.note("open")
        try:
            self.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.act("accept")
            self.handshake()
            while True:
                self.handle(self.receive_packet())
        except (Gone, OSError) as error:  # ssl.SSLError is an OSError
            self.note("end", why=str(error))
        finally:
            self.tcp.close()

    def shut(self):
        try:
            self.tcp.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def act(self, stage, request=None):
        """Does the fault of this stage; returns whether there was one."""
        action = self.peer.faults.get(stage)
        if not action:
            return False
        action(self, request)
        return True

    def wait(self, seconds):
        if self.peer.is_closed.wait(seconds):
            raise Gone("the test is over")

    # Sending and receiving bytes

    def receive_raw(self):
        data = self.tcp.recv(65536)
        if not data:
            raise Gone("the client closed")
        return data

    def send_raw(self, data):
        if not self.pace:
            self.tcp.sendall(data)
            return
        for byte in data:
            self.tcp.sendall(bytes([byte]))
            self.wait(self.pace)

    def flush(self):
        if data := self.outgoing.read():
            self.send_raw(data)

    def handshake(self):
        tls = self.peer.tls.wrap_bio(self.incoming, self.outgoing, server_side=True)
        data = self.receive_raw()
        self.note("hello")
        self.act("hello")
        while True:
            self.incoming.write(data)
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                flight = self.outgoing.read()
                if not self.act("flight", flight):
                    self.send_raw(flight)
            except ssl.SSLError:
                self.flush()  # the alert
                raise
            data = self.receive_raw()
        self.tls = tls
        self.flush()
        self.note("secured", version=tls.version())

    def receive(self, size):
        while len(self.unread) < size:
            try:
                data = self.tls.read(65536)
                if not data:
                    raise Gone("the client closed as TLS wants it done")
                self.unread += data
            except ssl.SSLWantReadError:
                self.flush()
                self.incoming.write(self.receive_raw())
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    def send(self, data):
        if self.held is not None:
            self.held += data
        elif self.tls:
            self.tls.write(data)
            self.flush()
        else:
            self.send_raw(data)

    # Sending and receiving packets

    def receive_packet(self):
        first, length, shift = self.receive(1)[0], 0, 0
        while True:
            digit = self.receive(1)[0]
            length |= (digit & 0x7f) << shift
            shift += 7
            if digit < 0x80:
                break
        return Request(first >> 4, first & 0xf, self.receive(length))

    def handle(self, request):
        if request.what == "poll":
            request.detail["earliest"] = min(self.may_poll_at, time.monotonic())
        self.note(request.what, **request.detail)
        if request.what == "disconnect":
            raise Gone("the client said goodbye")
        if not self.is_deaf and not self.act(request.what, request):
            self.answer(request)

    def answer(self, request):
        if request.what == "connect":
            self.send(connack())
        elif request.what == "subscribe":
            self.is_subscribed = True
            self.may_poll_at = time.monotonic()
            self.send(packet(SUBACK, struct.pack(">HB", request.mid, min(request.detail["qos"], 1))))
        elif request.what == "ping":
            self.send(packet(PINGRESP))
        elif request.what in ("register", "poll"):
            acknowledge(self, request)
            right_reply(self, request)

    def right_reply(self, request):
        """Returns status, body and retry-after."""
        if request.what == "register":
            return 202, {"operationId": OPERATION, "status": "assigning"}, 0
        return 200, assigned(self.peer.hub, self.peer.device_id), None

    def respond(self, request, status, body=None, retry_after=None, rid=None, topic=None, qos=1, part=1.0):
        """rid, retry_after and topic are not checked or escaped. `part` is the fraction of the bytes that is sent."""
        topic = topic or (f"{RESPONSES}/{status}/?$rid={request.rid if rid is None else rid}"
                          + (f"&retry-after={retry_after}" if retry_after is not None else ""))
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if retry_after is not None and rid is None:
            self.peer.told.append(Told(time.monotonic(), time.time(), retry_after))
        self.may_poll_at = time.monotonic() + (retry_after if isinstance(retry_after, int) else 0)
        self.mid = self.mid % 65535 + 1
        data = publish(topic, body or b"", qos, self.mid)
        self.send(data[:int(len(data) * part)])


class Peer:
    """Listens on a port of its own, and records everything that happens."""

    def __init__(self, acceptor, pki, faults=None, tls="good", pace=0.0):
        self.acceptor = acceptor
        self.pki = pki
        self.hub, self.device_id = "hub.example", "device"
        self.record, self.told = [], []
        self.lock = threading.Condition()
        self.sessions = []
        self.n_done = 0
        self.is_closed = threading.Event()
        self.fillers = []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.faults = {}
        self.spoil(faults or {}, tls, pace)
        self.listen()

    @property
    def ca_file(self):
        return self.pki.ca_file

    def spoil(self, faults, tls="good", pace=0.0):
        self.tls, self.pace = self.pki.context(tls), pace
        self.n_done = 0
        self.faults = faults

    def mend(self):
        """Ends all faults, also in open connections; silent connections are closed."""
        is_mute = "syn" in self.faults
        self.spoil({})
        for session in self.sessions:
            if session.is_deaf:
                session.shut()
        if is_mute:
            for filler, _ in self.fillers:
                filler.close()
            self.listener.listen(64)
            self.acceptor.add(self)

    def listen(self):
        how = self.faults.get("syn")
        if how == "refused":
            return
        self.listener.listen(0 if how else 64)
        if how:
            self.fill()
        else:
            self.acceptor.add(self)

    def fill(self):
        """Fills the queue of connections, so that the kernel answers no more."""
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self.fillers.append((filler, filler.getsockname()))

    def accept(self):
        tcp, address = self.listener.accept()
        if any(own == address for _, own in self.fillers):
            tcp.close()
            return
        session = Session(self, tcp, len(self.sessions))
        self.sessions.append(session)
        session.start()

    def note(self, session, what, detail):
        with self.lock:
            self.record.append(Event(time.monotonic(), session, what, detail))
            self.lock.notify_all()

    def events(self, *what, since=0):
        """Returns the events of these kinds, from position `since` of the record on."""
        return [event for event in self.record[since:] if event.what in what]

    def contacts(self, *what):
        """Returns the events of clients that trust us. Ports are random, so a client of another test may connect as well."""
        trusted = {event.session for event in self.events("secured")}
        return [event for event in self.events(*(what or REQUESTS)) if event.session in trusted]

    def dense_polls(self):
        """The polls that the fifth after them followed within ten seconds, for certain: when a poll was sent we know only within
        bounds, not before what we had said and not after it came."""
        polls = self.events("poll")
        return [(first, sixth) for first, sixth in zip(polls, polls[5:]) if sixth.at - first.detail["earliest"] < 10]

    def wait_for(self, what, n=1, timeout=DEADLINE):
        with self.lock:
            if not self.lock.wait_for(lambda: len(self.events(what)) >= n, timeout):
                raise TimeoutError(f"{n} × {what} did not come; there was {[event[1:3] for event in self.record]}")

    def close(self):
        self.is_closed.set()
        self.acceptor.remove(self)
        self.listener.close()
        for session in self.sessions:
            session.shut()
            session.join(DEADLINE)


class Acceptor:
    """A thread that accepts the connections of many peers."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.lock = threading.Lock()
        self.peers = set()
        self.wakeup, self.waker = os.pipe()
        self.selector.register(self.wakeup, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                with self.lock:
                    if key.data in self.peers:
                        key.data.accept()

    def add(self, peer):
        with self.lock:
            self.peers.add(peer)
            self.selector.register(peer.listener, selectors.EVENT_READ, peer)

    def remove(self, peer):
        with self.lock:
            if peer in self.peers:
                self.peers.remove(peer)
                self.selector.unregister(peer.listener)

    def close(self):
        os.write(self.waker, b".")
        self.thread.join()
        self.selector.close()
        os.close(self.wakeup)
        os.close(self.waker)
