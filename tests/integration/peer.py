# SPDX-License-Identifier: MIT
"""A hostile peer: what no emulator should do. It listens where DPS would be, and each connection is treated by a function
that gets the socket: behaviours below, to be combined with Peer(directory, behaviour, certificate={…})."""
import datetime
import ipaddress
import socket
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP = 1, 2, 3, 4, 8, 9, 12, 13
RESPONSES = "$dps/registrations/res"


def make_certificate(directory, name="peer", subject="127.0.0.1", begins_in_days=-1, ends_in_days=30):
    """A self-signed certificate for an address or a name, and its key: one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(subject))])
    except ValueError:
        names = x509.SubjectAlternativeName([x509.DNSName(subject)])
    now = datetime.datetime.utcnow()
    common_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    certificate = (x509.CertificateBuilder().subject_name(common_name).issuer_name(common_name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now + datetime.timedelta(begins_in_days))
                   .not_valid_after(now + datetime.timedelta(ends_in_days)).add_extension(names, critical=False)
                   .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                   .sign(key, hashes.SHA256()))
    path = directory / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path


def packet(kind, body, flags=0):
    length, header = len(body), bytes([kind << 4 | flags])
    while True:
        header += bytes([length % 128 | (128 if length >= 128 else 0)])
        length //= 128
        if not length:
            return header + body


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


class Session:
    """MQTT over one connection, as a server sees it."""

    def __init__(self, stream):
        self.stream = stream

    def read_exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.stream.recv(n - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def read(self):
        """Kind, flags and body of the next packet; EOFError."""
        first = self.read_exactly(1)[0]
        length = shift = 0
        while True:
            byte = self.read_exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return first >> 4, first & 15, self.read_exactly(length)

    def send(self, kind, body, flags=0):
        self.stream.sendall(packet(kind, body, flags))

    def publish(self, topic, payload):
        self.send(PUBLISH, text(topic) + payload)


def serve(answer):
    """A behaviour: log in, subscribe, and for each request call answer(session, topic, rid, body)."""
    def behave(stream):
        session = Session(stream)
        while True:
            kind, flags, body = session.read()
            if kind == CONNECT:
                session.send(CONNACK, b"\0\0")
            elif kind == SUBSCRIBE:
                session.send(SUBACK, body[:2] + b"\1")
            elif kind == PINGREQ:
                session.send(PINGRESP, b"")
            elif kind == PUBLISH:
                length = int.from_bytes(body[:2], "big")
                topic, rest = body[2:2 + length].decode(), body[2 + length:]
                if flags & 6:
                    session.send(PUBACK, rest[:2])
                    rest = rest[2:]
                answer(session, topic, topic.rpartition("$rid=")[2].partition("&")[0], rest)
    return behave


def answer_with(status, body, parameters="", rid=None):
    """Each request the same answer."""
    def answer(session, topic, its_rid, _):
        session.publish(f"{RESPONSES}/{status}/?$rid={rid or its_rid}{parameters}", body)
    return serve(answer)


def connack(code):
    def behave(stream):
        session = Session(stream)
        session.read()
        session.send(CONNACK, bytes([0, code]))
        session.read()
    return behave


def send_after_connect(data):
    """These bytes instead of a CONNACK, and then the end."""
    def behave(stream):
        Session(stream).read()
        stream.sendall(data)
    return behave


def hang_up(stream):
    """The end, right behind the handshake."""


class Peer:
    """Listens on a port of its own until close(). `certificate` None: no TLS at all."""

    def __init__(self, behaviour, certificate=None):
        self.behaviour = behaviour
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        self.n_connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            self.n_connections += 1
            threading.Thread(target=self.treat, args=(stream,), daemon=True).start()

    def treat(self, stream):
        try:
            with stream:
                if not self.context:
                    self.behaviour(stream)
                    return
                with self.context.wrap_socket(stream, server_side=True) as secured:
                    self.behaviour(secured)
        except (OSError, EOFError):
            pass  # it has gone, as is its right

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
