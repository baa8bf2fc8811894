# SPDX-License-Identifier: MIT
"""api.sock: HTTP without D-Bus, for those whom the identity's group lets in, and nothing for anybody else."""
import contextlib
import json
import os
import pathlib
import pwd
import select
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from namespace import needs_another_user, needs_secrets
from process import BUILD, DEADLINE, clean_environment, eventually
from stranger import become
from tpm import modules

pytestmark = [
    pytest.mark.xdist_group("api"),
    pytest.mark.skipif(not (BUILD / "src/dpsd/api.so").exists(), reason="built without libmicrohttpd"),
]
PATIENCE, PLACES = 5, 16  # seconds for a request, and connections of a user at once
NOBODY = pwd.getpwnam("nobody").pw_uid


class Reply:
    def __init__(self, done):
        assert done.returncode == 0, done
        head, _, self.body = done.stdout.partition("\n\n")
        self.status = int(head.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:])

    @property
    def json(self):
        return json.loads(self.body)


@pytest.fixture
def door(gateway):
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)
    gateway.identity(access={"Api": "yes"})
    return gateway


def path_of(gateway, name="gateway"):
    return gateway.run / name / "api.sock"


def begin(gateway, path, *arguments):
    """curl, as a program would call it. The path of the socket must be short."""
    return subprocess.Popen(["curl", "--silent", "--show-error", "--include", "--unix-socket", "api.sock", *arguments,
                             f"http://dps{path}"], cwd=path_of(gateway).parent, env=clean_environment(gateway.directory),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def descriptors(gateway):
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def connections(gateway):
    """The sockets of the programs that dpsd has let in."""
    lines = [line.split() for line in pathlib.Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()]
    connected = {f"socket:[{words[6]}]" for words in lines if words[5] == "03" and words[-1].endswith("/api.sock")}
    found = set()
    for link in pathlib.Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(link))
    return found & connected


def begin_to_wait(gateway, path):
    """The same, and returns when it is let in."""
    before = connections(gateway)
    process = begin(gateway, path)
    eventually(lambda: connections(gateway) - before)
    return process


def end(process):
    out, err = process.communicate(timeout=DEADLINE)
    return Reply(subprocess.CompletedProcess(process.args, process.returncode, out, err))


def curl(gateway, path, *arguments):
    return end(begin(gateway, path, *arguments))


def post(gateway, path, **members):
    return curl(gateway, path, "--data", json.dumps(members))


def assigned(gateway, **options):
    gateway.start(**options)
    gateway.wait_for(State="assigned")
    eventually(lambda: path_of(gateway).is_socket())
    return gateway


def connect(gateway, user=None, name="gateway"):
    """A connection of another user, who has got hold of the socket; only root can do that. None: too many knock at once."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(DEADLINE)
    directory = os.open(path_of(gateway, name).parent, os.O_PATH)

    def go():
        if user is not None:
            become(user)
        with contextlib.suppress(BlockingIOError):
            made.connect(f"/proc/self/fd/{directory}/api.sock")

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    os.close(directory)
    try:
        made.getpeername()
    except OSError:
        return made.close()
    return made


def read_all(connection):
    """What comes until the end; the end may be an abrupt one."""
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionError:
        pass
    return data


def test_everything_that_the_bus_tells_and_takes(door):
    gateway = assigned(door)
    status = path_of(gateway).stat()
    assert stat.S_IMODE(status.st_mode) == 0o660 and status.st_gid == path_of(gateway).parent.stat().st_gid

    reply = curl(gateway, "/v1/assignment")
    assert reply.status == 200 and reply.headers["content-type"] == "application/json" and reply.headers["cache-control"] == "no-store"
    properties = gateway.properties("gateway")
    assert {key for key in properties if key in reply.json} == set(reply.json) == set(properties)
    assert [reply.json[key] for key in ("Name", "State", "AssignedHub", "Generation", "Healthy")] == [
        "gateway", "assigned", properties["AssignedHub"], properties["Generation"], True]

    reply = curl(gateway, "/v1/connection")
    assert (reply.status, reply.json) == (200, gateway.connection())
    reply = curl(gateway, "/v1/token?lifetime=1h")
    assert reply.status == 200 and reply.json["token"].startswith("SharedAccessSignature sr=")
    assert 3500e6 < reply.json["expiresAt"] - time.time() * 1e6 < 3700e6

    generation = properties["Generation"]
    assert post(gateway, "/v1/hub-connected", generation=generation).status == 204
    assert gateway.properties("gateway")["HubLastSeenAt"] > 0
    reply = post(gateway, "/v1/hub-failure", generation=generation, kind="throttled", code=429, detail="slowly\x1b[31m")
    assert (reply.status, reply.json["registering"]) == (200, False)
    assert "slowly" in gateway.properties("gateway")["HubLastFailure"] and "\x1b" not in gateway.properties("gateway")["HubLastFailure"]
    reply = post(gateway, "/v1/hub-failure", generation=generation, kind="auth", code=401)
    assert (reply.status, reply.json["registering"]) == (200, True)


REFUSED = (
    ("/", (), 404, "NotFound"),
    ("/v1/token/", (), 404, "NotFound"),
    ("/v1/token", ("--data", "{}"), 405, "MethodNotAllowed"),
    ("/v1/token?lifetime=soon", (), 400, "InvalidArgs"),
    ("/v1/token?lifetime=0", (), 400, "InvalidArgs"),
    ("/v1/connection?wait=1s", (), 400, "InvalidArgs"),
    ("/v1/connection?generation=x", (), 400, "InvalidArgs"),
    ("/v1/hub-connected", ("--data", "generation=1"), 400, "InvalidArgs"),
    ("/v1/hub-connected", ("--data", '{"generation":"1"}'), 400, "InvalidArgs"),
    ("/v1/hub-connected", ("--data", "x" * 4097), 413, "LimitsExceeded"),
    ("/v1/hub-failure", ("--data", '{"generation":1,"kind":"mood"}'), 400, "InvalidArgs"),
    ("/v1/hub-failure", ("--data", '{"generation":1,"kind":"auth","code":-1}'), 400, "InvalidArgs"),
)


def test_what_it_does_not_understand_it_refuses(door):
    gateway = assigned(door)
    for path, arguments, status, error in REFUSED:
        reply = curl(gateway, path, *arguments)
        assert (path, reply.status, reply.json["error"]) == (path, status, error) and reply.json["message"]
        assert status != 405 or reply.headers["allow"] == "get"


@needs_secrets
def test_without_an_assignment_it_says_so_and_waits_for_one(door):
    door.identity(access={"Api": "yes"}, provisioning={"MqttPort": 1})
    door.start()
    eventually(lambda: path_of(door).is_socket())
    reply = curl(door, "/v1/connection")
    assert (reply.status, reply.json["error"]) == (409, "NotAssigned") and "not assigned to a hub" in reply.json["message"]
    waiting = begin_to_wait(door, "/v1/connection?generation=0&wait=60s")
    door.identity(access={"Api": "yes"})
    door.reload()
    reply = end(waiting)
    assert reply.status == 200 and reply.json == door.connection()


@needs_secrets
def test_a_long_poll_ends_with_the_next_generation_or_in_time(door):
    gateway = assigned(door)
    generation = gateway.connection()["generation"]
    assert curl(gateway, f"/v1/assignment?generation={generation + 1}&wait=60s").status == 200
    assert curl(gateway, f"/v1/assignment?generation={generation}").status == 304
    reply = curl(gateway, f"/v1/assignment?generation={generation}&wait=100ms")
    assert (reply.status, reply.body) == (304, "")
    waiting = [begin_to_wait(gateway, f"/v1/{what}?generation={generation}&wait=60s") for what in ("assignment", "connection")]
    gateway.emulator.ctl("set", "gateway", "iotHubs=hub-9.example")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    first, second = map(end, waiting)
    assert (first.json["AssignedHub"], second.json["hub"]) == ("hub-9.example", "hub-9.example")


@needs_secrets
def test_without_api_there_is_no_socket_and_none_stays_behind(door):
    gateway = assigned(door)
    waiting = begin_to_wait(gateway, f"/v1/assignment?generation={gateway.connection()['generation']}&wait=60s")
    gateway.identity()
    gateway.reload()
    eventually(lambda: not path_of(gateway).exists())
    assert end(waiting).status == 404
    gateway.identity(access={"Api": "yes"})
    gateway.reload()
    eventually(lambda: path_of(gateway).is_socket())
    gateway.kill()
    gateway.identity()
    gateway.start()
    assert not path_of(gateway).exists()
    gateway.identity(access={"Api": "yes"})
    gateway.reload()
    eventually(lambda: path_of(gateway).is_socket())
    (gateway.configuration / "gateway.conf").unlink()
    gateway.reload()
    eventually(lambda: not path_of(gateway).parent.exists())


def test_without_the_module_the_log_says_how_to_get_it_and_a_reload_looks_again(door):
    module = door.directory / "modules/api.so"
    module.rename(module.with_suffix(".away"))
    door.start()
    door.wait_for(State="assigned")
    door.wait_for_log("install the package dps-api")
    assert not path_of(door).exists()
    module.with_suffix(".away").rename(module)
    door.reload()
    eventually(lambda: path_of(door).is_socket())


@needs_another_user
def test_who_is_in_no_group_gets_nothing(door):
    gateway = assigned(door)
    path_of(gateway).parent.chmod(0o755)
    path_of(gateway).chmod(0o666)
    with connect(gateway, NOBODY) as stranger:
        stranger.sendall(b"GET /v1/token HTTP/1.1\r\nHost: dps\r\n\r\n")
        answer = read_all(stranger)
    assert answer.startswith(b"HTTP/1.1 403 ") and b'"AccessDenied"' in answer and b"SharedAccess" not in answer


@needs_another_user
def test_who_comes_too_often_too_slowly_or_with_too_much_disturbs_nobody(door):
    gateway = assigned(door)
    path_of(gateway).parent.chmod(0o755)
    path_of(gateway).chmod(0o666)
    with connect(gateway, NOBODY) as verbose:
        verbose.sendall(b"GET / HTTP/1.1\r\nHost: dps\r\nX: " + b"x" * 16000)
        assert read_all(verbose)[:12] in (b"HTTP/1.1 431", b"HTTP/1.0 431", b"")
    crowd = [one for one in (connect(gateway, NOBODY) for _ in range(1000)) if one]
    assert len(crowd) > 100
    for one in crowd:
        try:
            one.sendall(b"GET /v1/token HTTP/1.1\r\nHo")
        except OSError:
            pass
    assert curl(gateway, "/v1/assignment").status == 200
    assert descriptors(gateway) < 60
    begun = time.monotonic()
    assert sum(read_all(one) == b"" for one in crowd) == len(crowd)
    assert time.monotonic() - begun < PATIENCE * len(crowd) / PLACES * 2 / 3  # less than if they took turns
    for one in crowd:
        one.close()
    with connect(gateway, NOBODY) as again:
        again.sendall(b"GET /v1/token HTTP/1.1\r\nHost: dps\r\n\r\n")
        assert read_all(again).startswith(b"HTTP/1.1 403 ")


@needs_another_user
def test_users_take_turns_however_many_connections_one_of_them_has(door):
    """All have asked when the daemon looks, and one user was there first, with all that he may have."""
    door.identity("other", access={"Api": "yes"})
    gateway = assigned(door)
    gateway.wait_for("other", State="assigned")
    eventually(lambda: path_of(gateway, "other").is_socket())
    for name in ("gateway", "other"):
        path_of(gateway, name).parent.chmod(0o755)
        path_of(gateway, name).chmod(0o666)
    gateway.process.send_signal(signal.SIGSTOP)
    asked = []
    for name in ("gateway", "other"):
        asked += [connect(gateway, user, name) for user in [NOBODY] * 8 + [None]]
    served = select.epoll()
    for one in asked:
        served.register(one, select.EPOLLIN | select.EPOLLONESHOT)
        one.sendall(b"GET /v1/assignment HTTP/1.1\r\nHost: dps\r\n\r\n")
    gateway.process.send_signal(signal.SIGCONT)
    eventually(lambda: all(select.select([one], [], [], 0)[0] for one in asked), what="all answers")
    order = [next(k for k, one in enumerate(asked) if one.fileno() == fd) for fd, _ in served.poll(0)]  # the kernel keeps it
    served.close()
    answers = [read_all(one)[:12] for one in asked]
    for one in asked:
        one.close()
    assert answers == ([b"HTTP/1.1 403"] * 8 + [b"HTTP/1.1 200"]) * 2
    assert len(order) == 18 and {8, 17} <= set(order[:6]), order


@needs_another_user
def test_a_flood_delays_nobody_else_for_long(door):
    gateway = assigned(door)
    path_of(gateway).parent.chmod(0o755)
    path_of(gateway).chmod(0o666)
    over, answers = threading.Event(), []

    def flood():
        become(NOBODY)
        while not over.is_set():
            with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
                one.settimeout(DEADLINE)
                one.connect(f"/proc/self/fd/{directory}/api.sock")
                one.sendall(b"GET /v1/connection HTTP/1.1\r\nHost: dps\r\n\r\n")
                answers.append(read_all(one)[:12])

    directory = os.open(path_of(gateway).parent, os.O_PATH)
    crowd = [threading.Thread(target=flood) for _ in range(12)]
    for one in crowd:
        one.start()
    eventually(lambda: len(answers) > 100)
    seconds = []
    for _ in range(21):
        begun = time.monotonic()
        gateway.properties("gateway")
        seconds.append(time.monotonic() - begun)
    over.set()
    for one in crowd:
        one.join()
    os.close(directory)
    # A busy machine may delay some of them for longer.
    assert set(answers) <= {b"HTTP/1.1 403", b""} and sorted(seconds)[10] < 5, seconds
