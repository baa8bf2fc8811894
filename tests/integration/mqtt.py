# SPDX-License-Identifier: MIT
"""A device as DPS sees it: the parts of MQTT 3.1.1 over TLS that a registration needs, and tokens. Tests see every packet."""
import base64
import hashlib
import hmac
import json
import socket
import ssl
import time
from urllib.parse import quote

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90, 0xE0
FILTER = "$dps/registrations/res/#"
PATIENCE = 20


def derive_key(group_key, registration_id):
    digest = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def token(key, resource, lifetime=3600, policy="registration", encode=lambda text: quote(text, safe="")):
    expiry = int(time.time()) + lifetime
    to_sign = f"{encode(resource)}\n{expiry}".encode()
    signature = base64.b64encode(hmac.new(base64.b64decode(key), to_sign, hashlib.sha256).digest()).decode()
    return (f"SharedAccessSignature sr={encode(resource)}&sig={quote(signature, safe='')}&se={expiry}"
            + (f"&skn={policy}" if policy else ""))


class Closed(Exception):
    """The other side closed the connection."""


class Refused(Exception):
    def __init__(self, code):
        super().__init__(f"CONNACK {code}")
        self.code = code


class Answer:
    def __init__(self, topic, body):
        self.topic, self.text = topic, body.decode()
        self.status = int(topic.split("/")[3])
        self.params = dict(pair.split("=", 1) for pair in topic.split("?", 1)[1].split("&"))

    @property
    def body(self):
        return json.loads(self.text)


class Session:
    """A connection; it is opened and logged in, unless the login is refused."""

    def __init__(self, port, ca_file, client_id, user_name, password=None, certificate=None, clean=True, level=4,
                 host="127.0.0.1", keep_alive=60, will=None, tls=ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=ca_file)
        context.maximum_version = tls
        if certificate:
            context.load_cert_chain(*certificate)
        self.socket = context.wrap_socket(socket.create_connection((host, port), PATIENCE), server_hostname=host)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = 0x80 | (0x40 if password is not None else 0) | (0x02 if clean else 0) | (0x04 if will else 0)
        payload = self._text(client_id) + (self._text(will) + self._text("gone") if will else b"") + self._text(user_name)
        payload += self._text(password) if password is not None else b""
        self.send(CONNECT, self._text("MQTT") + bytes([level, flags]) + keep_alive.to_bytes(2, "big") + payload)
        kind, data = self.receive()
        assert kind == CONNACK
        self.session_present, code = data
        if code:
            self.socket.close()
            raise Refused(code)
        self.packet_id = 0
        self.log = []  # kinds of packets, in the order in which they arrived

    @staticmethod
    def _text(text):
        return len(text.encode()).to_bytes(2, "big") + text.encode()

    def send(self, kind, data=b""):
        size, header = len(data), bytes([kind])
        while True:
            size, digit = divmod(size, 128)
            header += bytes([digit | (0x80 if size else 0)])
            if not size:
                break
        self.socket.sendall(header + data)

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.socket.recv(n - len(data))
            except (ConnectionError, ssl.SSLError) as error:
                raise Closed from error
            if not more:
                raise Closed
            data += more
        return data

    def receive(self):
        kind, size, shift = self._exactly(1)[0], 0, 0
        while True:
            digit = self._exactly(1)[0]
            size |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return kind, self._exactly(size)

    def expect(self, wanted):
        while True:
            kind, data = self.receive()
            self.log.append(kind & 0xF0)
            if kind & 0xF0 == wanted & 0xF0:
                return kind, data

    def subscribe(self, topic=FILTER, qos=1):
        """Returns the granted quality of service, or 0x80 for a refusal."""
        self.packet_id += 1
        self.send(SUBSCRIBE, self.packet_id.to_bytes(2, "big") + self._text(topic) + bytes([qos]))
        return self.expect(SUBACK)[1][2]

    def publish(self, topic, body="", qos=0, retain=False):
        self.packet_id += 1
        identifier = self.packet_id.to_bytes(2, "big") if qos else b""
        self.send(PUBLISH | qos << 1 | retain, self._text(topic) + identifier + body.encode())

    def answer(self):
        kind, data = self.expect(PUBLISH)
        size = int.from_bytes(data[:2], "big")
        topic, rest = data[2:2 + size].decode(), data[2 + size:]
        self.qos = kind >> 1 & 3
        if self.qos:
            self.send(PUBACK, rest[:2])
            rest = rest[2:]
        return Answer(topic, rest)

    def is_closed(self):
        try:
            while True:
                self.receive()
        except Closed:
            return True
        except TimeoutError:
            return False

    def is_quiet(self):
        """Returns whether no answer comes before that to a ping."""
        self.send(0xC0)
        kind, _ = self.receive()
        return kind == 0xD0

    def close(self):
        self.send(DISCONNECT)
        self.socket.close()


class Device(Session):
    """A session with DPS."""

    def __init__(self, emulator, registration_id, key=None, id_scope="0ne00AABBCC", client_id=None, password=None,
                 api_version="2019-03-31", lifetime=3600, **more):
        if key:
            password = token(key, f"{id_scope}/registrations/{registration_id}", lifetime)
        self.rid = 0
        super().__init__(emulator.port, str(emulator.ca_file), client_id or registration_id,
                         f"{id_scope}/registrations/{registration_id}/api-version={api_version}&ClientVersion=test",
                         password, **more)

    def request(self, topic, body="", qos=0):
        self.rid += 1
        self.publish(topic.replace("{rid}", str(self.rid)), body, qos)

    def send_register(self, body="", qos=0):
        self.request("$dps/registrations/PUT/iotdps-register/?$rid={rid}", body, qos)

    def send_poll(self, operation_id, body=""):
        self.request("$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId=" + operation_id, body)

    def register(self, body="", qos=0):
        self.send_register(body, qos)
        return self.answer()

    def poll(self, operation_id, body=""):
        self.send_poll(operation_id, body)
        return self.answer()

    def provision(self):
        """Registers, and polls until there is a final answer."""
        self.subscribe()
        answer = self.register()
        while answer.status == 202:
            answer = self.poll(answer.body["operationId"])
        return answer
