# SPDX-License-Identifier: MIT
"""The rows of the fault matrix: what a peer does, and how dpsd must react.

Each row has an identity, an ID scope and a peer of its own, so that all can wait at the same time.
"""
import ctypes
import dataclasses
import struct

from hostile import (CONNACK, DISCONNECT, OPERATION, PINGRESP, RESPONSES, SUBACK, SUBSCRIBE, TRACKING_ID, acknowledge,
                     after, answer, assigned, assigning, beneath, both, close, connack, endlessly, error_body, failed,
                     good, goodbye, half_close, half_flight, in_one_go, nothing, once, packet, publish, raw, reply,
                     reset, right_reply, silence, stale, text, trickle)

# libmosquitto 2.1 takes no session that it did not ask for, no second CONNACK, and no topic with wildcards.
IS_STRICT = ctypes.CDLL("libmosquitto.so.1").mosquitto_lib_version(None, None, None) >= 2001000

BACKOFF = (2.5, 5.0)  # seconds after the first failure
FINAL = (0.8 * 60, 1.2 * 60)  # seconds after the first final answer
DAY = 24 * 3600


def clock_is_synchronized():
    """Asks the kernel: a 401 without the time of DPS is final only if the clock is synchronised."""
    timex = ctypes.create_string_buffer(208)
    result = ctypes.CDLL(None).adjtimex(timex)
    return result >= 0 and struct.unpack_from("@q", timex, 24)[0] < 16_000_000  # the maximum error, in µs


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    faults: dict
    kind: str  # "fine": dpsd is assigned all the same; "fails": the attempt fails; "parked": dpsd is told to wait long
    errors: tuple = ()  # pairs of LastErrorId and LastErrorStep; if there are several, the kernel decides which one it is
    state: str = "provisioning"
    waiting: str = "retry"
    code: int = 0
    next: tuple = BACKOFF  # NextAttemptAt: seconds (least, most) after the told retry-after came, or else after the failure
    again: str = "register"  # the first request after the fault
    afterwards: dict = dataclasses.field(default_factory=dict)  # faults that stay after mend()
    tls: str = "good"
    pace: float = 0.0
    endpoint: str = "127.0.0.1"
    min_gap: float = 0.0  # seconds from register to poll
    until: tuple = ()  # the fault ends after so many requests: (event, number)
    tracking_id: str = ""
    operation: str = OPERATION  # the operation id of the polls
    client: str = ""  # the identity has a certificate from a "trusted" or an "unknown" CA
    n_keys: int = 1
    n_connections: int = 1  # number of connections that a "fine" row needs
    is_quick: bool = True  # the fault is repeated while an assignment is served


def fine(name, faults=None, **more):
    return Row(name, faults or {}, "fine", **more)


def fails(name, error, step, faults=None, **more):
    return Row(name, faults or {}, "fails", ((error, step),), **more)


def refused(name, error, step, faults=None, **more):
    """The attempt ends with a final answer."""
    return fails(name, error, step, faults, state="failed", **({"next": FINAL} | more))


def throttled(name, step, faults, **more):
    return fails(name, "throttled", step, faults, waiting="throttled", code=429, **more)


def told(seconds):
    """The wait is the told time and up to a fifth more."""
    seconds = min(seconds, DAY)
    return seconds, 1.2 * seconds


# Silence, and all ways to end a connection, at each stage

MANNERS = {"silence": silence, "reset": reset, "close": close, "half-close": half_close, "goodbye": goodbye}
HALF_REPLY = both(acknowledge, reply(202, {"operationId": OPERATION, "status": "assigning"}, part=0.6))
STAGES = [  # name, stage, actions before the fault, step, first request after the fault
    ("accept", "accept", None, "tls", "register"),
    ("hello", "hello", None, "tls", "register"),
    ("half-flight", "flight", half_flight, "tls", "register"),
    ("login", "connect", None, "login", "register"),
    ("subscribe", "subscribe", None, "subscribe", "register"),
    ("register", "register", acknowledge, "register", "register"),
    ("half-packet", "register", HALF_REPLY, "register", "register"),
    ("assigning", "register", assigning(3), "poll", "poll"),
    ("poll", "poll", acknowledge, "poll", "poll"),
]


def stage_rows():
    for name, stage, before, step, again in STAGES:
        for manner, end in MANNERS.items():
            if manner == "goodbye" and step == "tls" or (name, manner) == ("assigning", "silence"):
                continue  # impossible before TLS; covered by silence at poll
            errors = (("timeout" if manner == "silence" else "lost", step),)
            if name in ("accept", "hello") and manner != "silence":
                errors += (("refused", "connect"),)  # if no byte came
            yield Row(f"{name}-{manner}", {stage: both(before, end) if before else end}, "fails", errors, again=again,
                      next=(3.0 if name == "assigning" else 2.5, 5.0), is_quick=manner != "silence")


CONNECTIONS = [
    fails("port-closed", "refused", "connect", {"syn": "refused"}, is_quick=False),
    fails("no-answer-to-syn", "timeout", "connect", {"syn": "ignored"}, is_quick=False),
    fine("name-of-two-addresses", endpoint="localhost"),  # ::1 is refused
    fails("trickling-handshake", "timeout", "tls", {}, pace=0.3, is_quick=False),
    fails("trickling-connack", "timeout", "login", {"connect": trickle(good, 1.5)}, is_quick=False),
    fails("trickling-suback", "timeout", "subscribe", {"subscribe": trickle(good, 1.5)}, is_quick=False),
    fails("trickling-reply", "timeout", "register", {"register": trickle(good, 0.5)}, is_quick=False),
    fine("byte-by-byte", pace=0.002),
    fine("slow-connack", {"connect": after(3, good)}),
    fine("slow-reply", {"register": after(5, good), "poll": after(5, good)}),
    fails("http-instead-of-tls", "tls", "tls", {"hello": both(raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), close)}),
    fails("ssh-instead-of-tls", "tls", "tls", {"hello": both(raw(b"SSH-2.0-OpenSSH_9.2\r\n"), silence)}),
    fails("mqtt-instead-of-tls", "tls", "tls", {"hello": both(raw(3 * connack()), silence)}),
    fails("garbage-instead-of-tls", "tls", "tls", {"hello": both(raw(bytes(range(255, -1, -1))), silence)}),
    fails("alert-instead-of-tls", "tls", "tls", {"hello": both(raw(b"\x15\x03\x03\x00\x02\x02\x28"), close)}),
    fails("garbage-beneath-tls", "lost", "login", {"connect": both(beneath(bytes(range(255, -1, -1))), silence)}),
]

CERTIFICATES = [
    fails("certificate-wrong-host", "tls-name", "tls", tls="wrong-host"),
    fails("certificate-expired", "tls-expired", "tls", tls="expired"),
    fails("certificate-not-yet-valid", "tls-expired", "tls", tls="not-yet-valid"),
    fails("certificate-untrusted", "tls-untrusted", "tls", tls="untrusted"),
    fails("certificate-of-impostor", "tls-untrusted", "tls", tls="impostor"),
    fails("certificate-unchained", "tls-untrusted", "tls", tls="unchained"),
    fails("certificate-self-signed", "tls-untrusted", "tls", tls="self-signed"),
    fails("certificate-wrong-purpose", "tls-untrusted", "tls", tls="wrong-purpose"),
    fails("certificate-weak-key", "tls-untrusted", "tls", tls="weak-key"),
    fine("certificate-chained", tls="chained"),
    fails("certificate-with-400-more", "tls", "tls", tls="overlong"),
    fails("tls-1.0-only", "tls", "tls", tls="tls-1.0"),
    fails("tls-1.1-only", "tls", "tls", tls="tls-1.1"),
    fine("tls-1.2-only", tls="tls-1.2"),
    fine("tls-1.3-only", tls="tls-1.3"),
    refused("certificate-of-ours-demanded", "auth", "tls", tls="wants-certificate"),
]

CREDENTIALS = [
    fine("client-certificate-accepted", tls="wants-certificate", client="trusted"),
    refused("client-certificate-unknown", "auth", "tls", tls="wants-certificate", client="unknown"),
    refused("client-certificate-unknown-tls-12", "auth", "tls", tls="wants-certificate-tls-1.2", client="unknown"),
    fine("first-key-refused-at-login", {"connect": once(raw(connack(5)))}, n_keys=2, n_connections=2),
    fine("first-key-refused-at-register", {"register": once(answer(401, error_body(401000)))}, n_keys=2, n_connections=2),
    fine("first-key-refused-and-told-to-wait", {"register": once(answer(401, error_body(401000), retry_after=2))}, n_keys=2, n_connections=2),
    refused("both-keys-refused-at-login", "auth", "login", {"connect": raw(connack(4))}, n_keys=2),
    refused("both-keys-refused-at-register", "auth", "register", {"register": answer(401, error_body(401002))}, n_keys=2, code=401002,
            tracking_id=TRACKING_ID),
    fails("first-key-refused-second-lost", "lost", "login", {"connect": once(raw(connack(5)), close)}, n_keys=2, is_quick=False),
]

LOGIN = [
    fails("connack-1", "protocol", "login", {"connect": raw(connack(1))}),
    fails("connack-2", "protocol", "login", {"connect": raw(connack(2))}),
    fails("connack-3", "service", "login", {"connect": raw(connack(3))}),
    refused("connack-4", "auth", "login", {"connect": raw(connack(4))}),
    refused("connack-5", "auth", "login", {"connect": raw(connack(5))}),
    refused("connack-5-and-close", "auth", "login", {"connect": both(raw(connack(5)), close)}),
    refused("connack-5-and-reset", "auth", "login", {"connect": both(raw(connack(5)), reset)}),
    fails("connack-6", "protocol", "login", {"connect": raw(connack(6))}),
    fails("connack-255", "protocol", "login", {"connect": raw(connack(255))}),
    fails("connack-truncated", "protocol", "login", {"connect": raw(packet(CONNACK, b"\0"))}),
    fails("connack-half-and-close", "lost", "login", {"connect": both(raw(b"\x20\x02\0"), close)}),
    fails("connack-of-endless-length", "protocol", "login", {"connect": raw(b"\x20\xff\xff\xff\xff\xff")}),
    fails("http-instead-of-connack", "protocol", "login", {"connect": raw(b"HTTP/1.1 400 Bad Request\r\n" * 5)}),
    fails("connack-empty", "protocol", "login", {"connect": raw(packet(CONNACK))}),
    fails("session-present", "protocol", "login", {"connect": raw(connack(0, 1))}) if IS_STRICT else
    fine("session-present", {"connect": raw(connack(0, 1))}),
    fails("connack-twice", "protocol", "login", {"connect": raw(connack() + connack())}) if IS_STRICT else
    fine("connack-twice", {"connect": raw(connack() + connack())}),
    fails("suback-instead-of-connack", "protocol", "login", {"connect": both(raw(packet(SUBACK, b"\0\1\1")), silence)}),
    fails("reply-instead-of-connack", "protocol", "login",
          {"connect": both(raw(publish(f"{RESPONSES}/200/?$rid=1", b"{}")), silence)}),
    fails("suback-refused", "protocol", "subscribe", {"subscribe": raw(packet(SUBACK, b"\0\1\x80"))}),
    fails("suback-without-code", "protocol", "subscribe", {"subscribe": raw(packet(SUBACK, b"\0\1"))}),
    fine("suback-of-qos-0", {"subscribe": raw(packet(SUBACK, b"\0\1\0"))}),
    fine("suback-after-the-reply", {"subscribe": nothing, "register": both(good, raw(packet(SUBACK, b"\0\1\1")))}),
    fine("suback-missing", {"subscribe": nothing}),
]

# Invalid MQTT instead of the answer to register
NO_MQTT = {
    "length-of-five-bytes": b"\x30\xff\xff\xff\xff\xff",
    "packet-type-0": b"\0\0",
    "packet-type-15": b"\xf0\0",
    "packet-of-clients": packet(SUBSCRIBE, b"\0\1" + text("#") + b"\1", 2),
    "publish-without-topic-length": packet(3, b"\0"),
    "publish-topic-too-long": packet(3, b"\xff\xff" + b"$dps", 2),
    "publish-without-packet-id": packet(3, text("$dps/registrations/res/200/?$rid=1"), 2),
    "publish-qos-3": publish("$dps/registrations/res/200/?$rid=1", b"{}", 3),
    "publish-topic-no-utf-8": publish(b"$dps/registrations/res/200/?$rid=1\xff\xfe", b"{}"),
    "publish-topic-with-nul": publish(b"$dps/registrations/res/200/\0?$rid=1", b"{}"),
    "publish-topic-empty": publish("", b"{}"),
    "disconnect-of-server": packet(DISCONNECT),
}

LONG_ID = "4.%2F%00~!" + "*" * 240
FOREIGN = both(*[reply(200, assigned(), rid=str(1000 + n)) for n in range(50)])
OTHER = raw(b"".join(publish(f"$dps/registrations/other/{n}", b"{}") for n in range(50)))

REQUEST_IDS = [
    fails("rid-wrong", "timeout", "register", {"register": answer(200, assigned(), rid="999")}, is_quick=False),
    fails("rid-missing", "timeout", "register", {"register": answer(200, assigned(), topic=f"{RESPONSES}/200/?x=1")}, is_quick=False),
    fails("rid-empty", "timeout", "register", {"register": answer(200, assigned(), rid="")}, is_quick=False),
    fails("rid-no-number", "timeout", "register", {"register": answer(200, assigned(), rid="one")}, is_quick=False),
    fails("rid-negative", "timeout", "register", {"register": answer(200, assigned(), rid="-1")}, is_quick=False),
    fails("rid-huge", "timeout", "register", {"register": answer(200, assigned(), rid="18446744073709551617")}, is_quick=False),
    fails("topic-without-parameters", "timeout", "register", {"register": answer(200, assigned(), topic=f"{RESPONSES}/200")}, is_quick=False),
    fails("topic-with-wildcard", "protocol" if IS_STRICT else "timeout", "register", {"register": answer(200, assigned(), topic=f"{RESPONSES}/#")}, is_quick=False),
    fails("status-of-two-digits", "timeout", "register",
          {"register": answer(20, assigned())}, is_quick=False),
    fails("rid-stale-at-poll", "timeout", "poll", {"poll": stale(answer(200, assigned()))}, again="poll", is_quick=False),
    fails("rid-of-lost-request", "timeout", "register", {"register": silence},
          afterwards={"register": both(stale(reply(200, assigned())), good)},
          is_quick=False),
    fine("rid-wrong-then-right", {"register": both(answer(200, assigned(), rid="999"), good),
                                  "poll": both(answer(200, assigned(), rid="999"), good)}),
    fine("topic-of-60-kb", {"register": lambda session, request: answer(
        202, {"operationId": OPERATION, "status": "assigning"},
        topic=f"{RESPONSES}/202/?{'x' * 60000}=y&$rid={request.rid}&retry-after=0")(session, request)}),
    fine("operation-id-to-be-encoded", {"register": answer(202, {"operationId": LONG_ID, "status": "assigning"}, retry_after=0)},
         operation=LONG_ID),
    fine("replies-twice", {"register": both(good, right_reply), "poll": both(good, right_reply)}),
    fine("replies-twice-in-one-go", {"register": in_one_go(good, right_reply), "poll": in_one_go(good, right_reply)}),
    fine("retry-after-before-rid", {"register": lambda session, request: answer(
        202, {"operationId": OPERATION, "status": "assigning"},
        topic=f"{RESPONSES}/202/?retry-after=0&$rid={request.rid}&unheard-of=1")(session, request)}),
    fine("retry-after-in-capitals", {"register": lambda session, request: answer(
        202, {"operationId": OPERATION, "status": "assigning"}, topic=f"{RESPONSES}/202/?$rid={request.rid}&Retry-After=4")(session, request)},
         min_gap=4),
]

MESSAGES = [
    fine("puback-missing", {"register": right_reply, "poll": right_reply}),
    fine("puback-late", {"register": both(right_reply, acknowledge), "poll": both(right_reply, acknowledge)}),
    fine("puback-twice", {"register": both(acknowledge, good), "poll": both(acknowledge, good)}),
    fine("puback-of-another", {"register": both(raw(packet(4, b"\x7f\xff")), good)}),
    fine("foreign-50-first", {"register": both(FOREIGN, good), "poll": both(FOREIGN, good)}),
    fine("foreign-50-in-one-go", {"register": in_one_go(FOREIGN, good), "poll": in_one_go(FOREIGN, good)}),
    fine("other-topics-50-in-one-go", {"register": in_one_go(OTHER, good), "poll": in_one_go(OTHER, good)}),
    fine("pingresp-unasked", {"register": both(raw(packet(PINGRESP)), good)}),
    fine("reply-of-qos-0", {"register": both(acknowledge, lambda session, request: session.respond(
        request, *session.right_reply(request), qos=0))}),
    fails("reply-of-qos-2-unreleased", "timeout", "register", {"register": answer(200, assigned(), qos=2)}, is_quick=False),
    fails("foreign-without-end", "timeout", "register", {"register": endlessly(1, reply(200, assigned(), rid="999"))}, is_quick=False),
    fails("flood-without-end", "protocol", "register", {"register": endlessly(0.01, in_one_go(FOREIGN))}),
    fails("packet-of-256-megabytes-sent", "protocol", "register",
          {"register": both(raw(b"\x32\xff\xff\xff\x7f" + text("$dps")), endlessly(0.001, raw(b"x" * 16384)))}),
    fails("messages-2000", "protocol", "register", {"register": raw(b"".join(publish("x", b"", 1, mid) for mid in range(1, 2001)))}),
    fails("messages-2000-of-qos-2", "protocol", "register", {"register": raw(b"".join(publish("x", b"", 2, mid) for mid in range(1, 2001)))}),
    fails("pingresp-2000", "protocol", "register", {"register": raw(2000 * packet(PINGRESP))}),
    fails("pingresp-without-end", "timeout", "register", {"register": endlessly(1, raw(packet(PINGRESP)))}, is_quick=False),
    fails("packet-of-256-megabytes", "timeout", "register", {"register": both(raw(b"\x32\xff\xff\xff\x7f" + text("$dps")), silence)},
          is_quick=False),
]

# 200 and 202 with each status word

WORDS = [  # name, body, error id, code, whether it is final
    ("failed", failed(), "allocation", 0, True),
    ("failed-400207", failed(400207), "allocation", 400207, True),
    ("failed-400208", failed(400208), "allocation", 400208, True),
    ("failed-400209", failed(400209, '{"Message":"{\\"errorCode\\":1}"}'), "allocation", 400209, True),
    ("failed-401002", failed(401002), "auth", 401002, True),
    ("failed-409203", failed(409203), "conflict", 409203, False),
    ("failed-500000", failed(500000), "service", 500000, False),
    ("failed-777777", failed(777777), "request", 777777, True),
    ("disabled", {"operationId": "", "status": "disabled", "registrationState": {"status": "disabled"}}, "enrollment-disabled", 0, True),
    ("blacklisted", {"status": "blacklisted"}, "enrollment-disabled", 0, True),
    ("unheard-of", {"operationId": OPERATION, "status": "contemplating"}, "protocol", 0, False),
    ("word-in-capitals", assigned(status="ASSIGNED"), "protocol", 0, False),
    ("word-empty", {"operationId": OPERATION, "status": ""}, "protocol", 0, False),
    ("word-a-number", {"operationId": OPERATION, "status": 7}, "protocol", 0, False),
    ("word-with-nul", assigned(status="assigned\0"), "protocol", 0, False),
    ("word-with-escapes", {"operationId": OPERATION, "status": "\x1b]0;evil\x07\n<3>evil: evil"}, "protocol", 0, False),
    ("hub-missing", {"operationId": OPERATION, "status": "assigned", "registrationState": {"deviceId": "evil"}}, "protocol", 0, False),
    ("device-missing", {"operationId": OPERATION, "status": "assigned", "registrationState": {"assignedHub": "evil.example"}},
     "protocol", 0, False),
    ("state-missing", {"operationId": OPERATION, "status": "assigned"}, "protocol", 0, False),
    ("state-a-list", {"operationId": OPERATION, "status": "assigned", "registrationState": ["evil.example", "evil"]}, "protocol", 0, False),
    ("hub-with-newline", assigned("evil.example\nIOTHUB_TOKEN_FILE=/evil"), "protocol", 0, False),
    ("hub-with-nul", assigned("evil.example\0.azure-devices.net"), "protocol", 0, False),
    ("hub-a-number", assigned(7), "protocol", 0, False),
    ("hub-a-url", assigned("https://evil.example/"), "protocol", 0, False),
    ("hub-of-300-letters", assigned("evil." * 60 + "example"), "protocol", 0, False),
    ("device-of-129-letters", assigned(device_id="x" * 129), "protocol", 0, False),
    ("failed-with-device", failed(400209) | {"registrationState": {"status": "failed", "errorCode": 400209, "deviceId": "evil"}},
     "allocation", 400209, True),
    ("device-with-slash", assigned(device_id="../evil"), "protocol", 0, False),
    ("device-with-quotes", assigned(device_id='evil"; evil'), "protocol", 0, False),
]


def word_rows():
    for status in (200, 202):
        for name, body, error, code, is_final in WORDS:
            make = refused if is_final else fails
            yield make(f"register-{status}-{name}", error, "register", {"register": answer(status, body)}, code=code)
            yield make(f"poll-{status}-{name}", error, "poll", {"poll": answer(status, body)}, code=code)
        yield fine(f"register-{status}-assigning", {"register": answer(status, {"operationId": OPERATION, "status": "assigning"}, retry_after=0)})
        yield fine(f"register-{status}-unassigned", {"register": answer(status, {"operationId": OPERATION, "status": "unassigned"}, retry_after=0)})
        yield fine(f"register-{status}-assigned", {"register": lambda session, request, status=status: answer(
            status, assigned(session.peer.hub, session.peer.device_id))(session, request)})
        yield fails(f"register-{status}-operation-missing", "protocol", "register", {"register": answer(status, {"status": "assigning"})})
    yield fails("register-200-empty-object", "protocol", "register", {"register": answer(200, {})})
    yield fails("register-200-no-word", "protocol", "register", {"register": answer(200, {"operationId": OPERATION})})
    yield fine("register-202-no-word", {"register": answer(202, {"operationId": OPERATION}, retry_after=0)})
    for name in ("x/y", "#", "a+b", "a?b", "a&$rid=9", "a b", "a\nb", "x" * 300, ""):
        yield fails(f"operation-id-{'x300' if len(name) > 9 else name.encode().hex() or 'empty'}", "protocol", "register",
                    {"register": answer(202, {"operationId": name, "status": "assigning"}, retry_after=0)})
    for name, payload in (("object", {"a": [1, {}]}), ("list", [1, 2]), ("text", "text"), ("null", None), ("of-90-kb", {"a": "b" * 90000})):
        yield fine(f"payload-{name}", {"poll": lambda session, request, payload=payload: answer(200, assigned(
            session.peer.hub, session.peer.device_id, registrationState={
                "assignedHub": session.peer.hub, "deviceId": session.peer.device_id, "payload": payload,
                "substatus": "reprovisionedToMars", "x509": {}, "symmetricKey": None}))(session, request)})


# Other status codes

STATUSES = [  # status, error id, whether it is final
    (100, "protocol", False), (301, "protocol", False), (302, "protocol", False), (600, "protocol", False), (999, "protocol", False),
    (400, "request", True), (401, "auth", True), (403, "auth", True), (404, "enrollment-unknown", True), (405, "request", True),
    (409, "conflict", False), (412, "request", True), (415, "request", True), (429, "throttled", False), (499, "service", False),
    (500, "service", False), (502, "service", False), (503, "service", False), (504, "service", False),
]


def tracking_id(body):
    return body["trackingId"] if isinstance(body, dict) else ""


def status_row(step, status, error, is_final, body, name, code):
    again = "poll" if step == "poll" and not is_final and status >= 400 else "register"
    make = refused if is_final else fails
    return make(f"{step}-{name}", error, step, {step: answer(status, body)}, code=code, again=again,
                tracking_id=tracking_id(body), waiting="throttled" if error == "throttled" else "retry")


def refusal_row(step, name, body, clock_is_right, code=401000):
    """Without a synchronised clock dpsd cannot know whether the token or the clock is wrong."""
    more = {"code": code, "tracking_id": tracking_id(body)}
    if clock_is_right:
        return refused(f"{step}-{name}", "auth", step, {step: answer(401, body)}, **more)
    return fails(f"{step}-{name}", "clock", step, {step: answer(401, body)}, waiting="clock", **more)


def status_rows():
    for step in ("register", "poll"):
        for status, error, is_final in STATUSES:
            if (step, status) != ("poll", 404):
                yield status_row(step, status, error, is_final, error_body(status * 1000), str(status), status * 1000)
        for status, error in ((429, "throttled"), (503, "service")):
            yield status_row(step, status, error, False, b"", f"{status}-without-body", status)
        yield refusal_row(step, "401-without-body", b"", clock_is_synchronized(), 401)
        yield refusal_row(step, "401-of-2099", error_body(401000) | {"timestampUtc": "2099-01-01T00:00:00.0000000Z"}, False)
        yield status_row(step, 502, "service", False, b"<html><h1>502 Bad Gateway</h1></html>", "502-with-html", 502)
        yield status_row(step, 409, "conflict", False, error_body(409203, "Precondition failed."), "409203", 409203)
        yield status_row(step, 401, "auth", True, error_body(401002, "evil\x1b[2J\r\n<0>evil" * 50), "401002-with-escapes", 401002)
    yield status_row("register", 400, "api-version", True, error_body(400004), "400004", 400004)
    yield status_row("register", 404, "enrollment-unknown", True, error_body(404201), "404201", 404201)
    yield fails("poll-404", "operation-lost", "poll", {"poll": answer(404, error_body(404000))}, code=404000, tracking_id=TRACKING_ID)
    yield fails("poll-404-without-body", "operation-lost", "poll", {"poll": answer(404)}, code=404)
    yield fails("poll-404-failed", "operation-lost", "poll", {"poll": answer(404, failed(400207))}, code=400207)


# Invalid bodies

BODIES = {
    "empty": b"",
    "truncated": b'{"operationId":"4.d0","status":"assi',
    "ending-with-nul": b'{"operationId":"4.d0","status":"assigned","registrationState":{"assignedHub":"evil.example","deviceId":"evil"}}\0',
    "cut-by-nul": b'{"operationId":"4.d0","status":"assigned","registrationState":{"assignedHub":"evil.example","deviceId":"evil"}}\0garbage',
    "with-nul-inside": b'{"operationId":"4.d0\0","status":"assigning"}',
    "with-raw-controls": b'{"operationId":"4.d0","status":"assigning","x":"' + b"\x01" * 120000 + b'"}',
    "no-utf-8": b'{"operationId":"4.d0","status":"assigning","x":"\xff\xfe"}',
    "overlong-utf-8": b'{"operationId":"4.d0","status":"assigning","x":"\xc0\xaf"}',
    "overlong-utf-8-of-three": b'{"operationId":"4.d0","status":"assigning","x":"\xe0\x80\xaf"}',
    "surrogate-in-utf-8": b'{"operationId":"4.d0","status":"assigning","x":"\xed\xa0\x80"}',
    "of-300-kb": b'{"operationId":"4.d0","status":"assigning","x":"' + b"x" * 300000 + b'"}',
    "10000-deep": b'{"operationId":"4.d0","status":"assigning","x":' + b"[" * 10000 + b"]" * 10000 + b"}",
    "10000-deep-and-open": b"[" * 10000,
    "a-list": b'[{"operationId":"4.d0","status":"assigning"}]',
    "a-number": b"202",
    "null": b"null",
    "two-objects": b'{"operationId":"4.d0","status":"assigning"}{"status":"assigned"}',
    "html": b"<html><body>Please log in to Hotel WiFi</body></html>",
}


def body_rows():
    for name, body in BODIES.items():
        yield fails(f"register-body-{name}", "protocol", "register", {"register": answer(202, body)})
        yield fails(f"poll-body-{name}", "protocol", "poll", {"poll": answer(200, body)})


# retry-after

UNREADABLE = {"unreadable": "soon", "negative": "-5", "empty": "", "fractional": "1.5", "hexadecimal": "0x10", "signed": "+3", "blank": " 3"}
if IS_STRICT:
    del UNREADABLE["signed"]  # its topic has a wildcard
LONG = {"900": 900, "2-32": 2 ** 32, "2-64": 2 ** 64}


def retry_after_rows():
    accepted = {"operationId": OPERATION, "status": "assigning"}
    yield fine("202-retry-after-absent", {"register": answer(202, accepted)}, min_gap=2)
    yield fine("202-retry-after-0", {"register": answer(202, accepted, retry_after=0)})
    yield fine("202-retry-after-1", {"register": answer(202, accepted, retry_after=1)}, min_gap=1)
    yield fine("202-retry-after-10", {"register": answer(202, accepted, retry_after=10)}, min_gap=10)
    yield Row("202-retry-after-42", {"register": answer(202, accepted, retry_after=42)}, "parked", waiting="", next=told(42), again="poll",
              is_quick=False)
    for name, value in UNREADABLE.items():
        yield fine(f"202-retry-after-{name}", {"register": answer(202, accepted, retry_after=value)}, min_gap=2)
    for name, value in LONG.items():
        yield Row(f"202-retry-after-{name}", {"register": answer(202, accepted, retry_after=value)}, "parked", waiting="", next=told(value),
                  is_quick=False)
    for step in ("register", "poll"):
        again = {"again": step}
        yield throttled(f"{step}-429-retry-after-0", step, {step: answer(429, retry_after=0)}, **again)
        yield throttled(f"{step}-429-retry-after-1", step, {step: answer(429, retry_after=1)}, next=told(1), **again)
        yield throttled(f"{step}-429-retry-after-42", step, {step: answer(429, retry_after=42)}, next=told(42), is_quick=False, **again)
        for name, value in UNREADABLE.items():
            yield throttled(f"{step}-429-retry-after-{name}", step, {step: answer(429, retry_after=value)}, **again)
        yield fails(f"{step}-503-retry-after-1", "service", step, {step: answer(503, retry_after=1)}, code=503, next=told(1), **again)
        yield fails(f"{step}-503-retry-after-42", "service", step, {step: answer(503, retry_after=42)}, code=503, next=told(42),
                    is_quick=False, **again)
        yield refused(f"{step}-401-retry-after-42", "auth", step, {step: answer(401, error_body(401000), retry_after=42)}, code=401000, tracking_id=TRACKING_ID,
                      is_quick=False)
        for name, value in LONG.items():  # after a restart the operation is forgotten
            yield throttled(f"{step}-429-retry-after-{name}", step, {step: answer(429, retry_after=value)}, next=told(value), is_quick=False)
    yield refused("register-404-retry-after-7200", "enrollment-unknown", "register", {"register": answer(404, retry_after=7200)}, code=404,
                  next=told(7200), is_quick=False)
    yield fine("assigning-without-end", {"poll": assigning(0)}, until=("poll", 7))
    yield fine("assigning-without-end-1-s", {"poll": assigning(1)}, until=("poll", 5))
    yield fine("throttled-once-at-poll", {"poll": once(answer(202, accepted, retry_after=1))})


def all_rows():
    rows = [*stage_rows(), *CONNECTIONS, *CERTIFICATES, *CREDENTIALS, *LOGIN, *REQUEST_IDS, *MESSAGES, *word_rows(), *status_rows(), *body_rows(),
            *retry_after_rows()]
    rows += [fails(f"mqtt-{name}", "protocol", "register", {"register": raw(data)}) for name, data in NO_MQTT.items()]
    rows = [dataclasses.replace(row, name=row.name.replace(".", "")) for row in rows]
    names = [row.name for row in rows]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return rows
