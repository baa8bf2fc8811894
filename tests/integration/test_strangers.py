# SPDX-License-Identifier: MIT
"""What a local user can do over the bus who has no right to anything."""
import contextlib
import grp
import pathlib
import pwd
import re
import signal
import time

import pytest
from jeepney import HeaderFields, MessageType, message_bus
from jeepney.bus_messages import Monitoring

from calls import Calls
from clock import Clock
from fakedpsd import IDENTITY, MANAGER, ROOT, identity, path_of, variants
from gateway import NAME, can_change_user
from polkit import Polkit
from process import DEADLINE, eventually
from stranger import BUS, Stranger

SOMEBODY, ANOTHER = (pwd.getpwnam(name).pw_uid for name in ("nobody", "daemon"))
PENDING_MAX, AT_POLKIT_MAX = 80, 16  # of a user
AT_BUS_MAX = 16  # questions who somebody is
REFUSALS_MAX, REFUSALS_PER_S = 2000, 100  # of a user, and of all together of whom the bus has not said yet who they are


@pytest.fixture
def polkit(bus):
    if not can_change_user():
        pytest.skip("only root can be somebody else")
    made = Polkit(bus.address)
    yield made
    made.close()


@pytest.fixture
def connect(bus):
    """connect(user, group, …): a connection of that user, whose process is in these groups."""
    made = []

    def start(user, *groups):
        if user is not None and not can_change_user():
            pytest.skip("only root can be somebody else")
        made.append(Stranger(bus.address, user, groups))
        return made[-1]

    yield start
    for one in made:
        one.close()


# ---- signals from somebody else ----


EVIL = {"State": "assigned", "AssignedHub": "evil.example", "DeviceId": "evil", "LastSuccessAt": 2**62}
OBJECTS = "org.freedesktop.DBus.ObjectManager"
SPOOFED = [
    (path_of("gw"), "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", IDENTITY, variants(EVIL), []),
    (ROOT, OBJECTS, "InterfacesAdded", "oa{sa{sv}}", path_of("evil"), {IDENTITY: variants(identity("evil"))}),
    (ROOT, OBJECTS, "InterfacesRemoved", "oas", path_of("gw"), [IDENTITY]),
    (ROOT, MANAGER, "IdentityRemoved", "so", "gw", path_of("gw")),
    (path_of("gw"), IDENTITY, "ReprovisionFinished", "tbs", 41, True, ""),
    ("/org/freedesktop/DBus", BUS, "NameOwnerChanged", "sss", NAME, ":1.0", ""),
]


def spoof_all(stranger, victim):
    for signal in SPOOFED:
        stranger.spoof(victim, *signal)


@pytest.mark.parametrize("options", [[], ["--fresh"], ["gw"]])
def test_wait_does_not_believe_a_stranger(dpsctl, serve, stranger, options):
    fake = serve(identity("gw", "provisioning"))
    before = stranger.clients()
    process = dpsctl.start("wait", "--timeout=60", *options)
    victim = stranger.wait_for_newcomer(before)
    eventually(lambda: "GetManagedObjects" in fake.calls, what="that the list is asked for")
    spoof_all(stranger, victim)
    fake.change("gw", State="assigned", AssignedHub="real.example", DeviceId="real", LastSuccessAt=2**62)
    assert process.communicate(timeout=DEADLINE) == ("gw: assigned to real.example as real\n", "")
    assert process.returncode == 0


def test_monitor_shows_nothing_of_a_stranger(dpsctl, serve, stranger):
    fake = serve(identity("gw", "provisioning"))
    before = stranger.clients()
    process = dpsctl.start("monitor", "--json=short")
    victim = stranger.wait_for_newcomer(before)
    assert "present" in process.stdout.readline()
    spoof_all(stranger, victim)
    fake.remove("gw")
    assert "removed" in process.stdout.readline()
    process.kill()
    process.communicate(timeout=DEADLINE)


def test_the_end_of_a_job_is_not_believed_from_a_stranger(dpsctl, serve, stranger):
    fake = serve(identity("gw"))
    before = stranger.clients()
    process = dpsctl.start("reprovision", "--wait", "gw")
    victim = stranger.wait_for_newcomer(before)
    eventually(lambda: "Reprovision" in fake.calls, what="the job")
    spoof_all(stranger, victim)
    fake.finish("gw", 41, False, "the real end")
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, "the real end" in err) == (1, True)


def test_the_daemon_does_not_believe_a_stranger_that_the_name_is_its_own(gateway, stranger):
    other = gateway.client()
    other.own(NAME)
    gateway.identity()
    before = stranger.clients()
    gateway.start("--log-level=debug", wait=False)
    gateway.wait_for_log(f"the name {re.escape(NAME)} is taken")
    victim = stranger.wait_for_newcomer(before)
    stranger.spoof(victim, "/org/freedesktop/DBus", BUS, "NameAcquired", "s", NAME)
    stranger.wait_until_handled(victim)
    other.close()
    gateway.wait_until_ready()
    gateway.wait_for(State="assigned")
    assert gateway.log.count(f"the name {NAME} is ours") == 1


# ---- other names for the same ----


def test_an_identity_has_one_path(gateway, connect):
    """_67 is a g: a rule, a log or a person would not know it again."""
    path = assign(gateway)
    one = connect(None)
    alias = path.replace("/gateway", "/_67ateway")
    for interface, member, signature, body in (("org.freedesktop.DBus.Properties", "GetAll", "s", (IDENTITY,)),
                                               (IDENTITY, "GetToken", "t", (0,)), (IDENTITY, "Reprovision", None, ())):
        assert answer_to(one, one.send(alias, NAME, interface, member, signature, *body)) == f"{BUS}.Error.UnknownObject"
    assert answer_to(one, one.send(path, NAME, IDENTITY, "GetToken", "t", 0)) is None


# ---- calls without end ----


def test_calls_whose_answers_nobody_wants_do_not_stop_the_daemon(lone_gateway, stranger):
    """100 identities: their list takes long to make."""
    for k in range(100):
        lone_gateway.write_conf(f"device-{k:03}", "[Provisioning]\nIdScope=0ne00AABBCC\n[Attestation]\nKey=/nowhere\n")
    lone_gateway.start(WATCHDOG_USEC=200_000)
    end = stranger.flood(ROOT, NAME, OBJECTS, "GetManagedObjects")
    lone_gateway.notify.wait_for("WATCHDOG=1", lone_gateway.notify.lines.count("WATCHDOG=1") + 10)
    assert len(lone_gateway.list_in_flood()) == 100
    lone_gateway.stop()  # while the flood goes on
    end()


@pytest.fixture
def flooded(lone_gateway, connect):
    """100 identities, and a user whose five connections want their list 1500 times each: 7500 times what takes some ms."""
    for k in range(100):
        lone_gateway.write_conf(f"device-{k:03}", "[Provisioning]\nIdScope=0ne00AABBCC\n[Attestation]\nKey=/nowhere\n")
    lone_gateway.start(WATCHDOG_USEC=200_000)
    crowd = [connect(SOMEBODY) for _ in range(5)]
    since = time.monotonic()
    for one in crowd:
        one.send_many(1500, ROOT, NAME, OBJECTS, "GetManagedObjects")
    return lone_gateway, crowd, since


def test_a_user_who_asks_without_end_gets_a_share_and_root_and_others_do_not_wait(flooded, connect):
    gateway, crowd, since = flooded
    watchdogs = gateway.notify.lines.count("WATCHDOG=1")
    assert len(gateway.list_in_flood()) == 100
    own = gateway.client()
    wanted = own.call(ROOT, OBJECTS, "GetManagedObjects")
    own.close()
    other = connect(ANOTHER)
    serial = other.send(ROOT, NAME, OBJECTS, "GetManagedObjects")
    assert other.answer_to(serial).body == wanted
    gateway.notify.wait_for("WATCHDOG=1", watchdogs + 5)
    for one in crowd:  # what they still get after the last answers: what is behind the flood
        one.wait_until_over()
    answers = [message.header.message_type for one in crowd for message in one.received]
    n_lists, n_refusals = (answers.count(kind) for kind in (MessageType.method_return, MessageType.error))
    seconds = time.monotonic() - since
    assert 0 < n_lists < 1000 and n_refusals <= 2 * (REFUSALS_MAX + 1 + REFUSALS_PER_S * seconds), (n_lists, n_refusals, seconds)
    assert {message.header.fields[HeaderFields.error_name] for one in crowd for message in one.received
            if message.header.message_type is MessageType.error} == {f"{BUS}.Error.LimitsExceeded"}


@pytest.mark.parametrize("interface, member, signature, body", [
    (MANAGER, "GetIdentity", "s", ("device-007",)), (MANAGER, "ListIdentities", None, ()),
    (MANAGER, "GetAllIdentities", None, ()),
    ("org.freedesktop.DBus.Introspectable", "Introspect", None, ()),
    ("org.freedesktop.DBus.Properties", "Get", "ss", (MANAGER, "NIdentities")),
    ("org.freedesktop.DBus.Properties", "GetAll", "s", (MANAGER,)), (MANAGER, "GetIdentity", "s", ("nobody",))])
def test_who_waits_behind_a_flood_gets_the_same_answers(flooded, connect, interface, member, signature, body):
    gateway, *_ = flooded
    own, other = Stranger(gateway.bus_address), connect(ANOTHER)
    answers = [one.answer_to(one.send(ROOT, NAME, interface, member, signature, *body)) for one in (own, other)]
    own.close()
    assert answers[0].body == answers[1].body
    assert answers[0].header.fields.get(HeaderFields.error_name) == answers[1].header.fields.get(HeaderFields.error_name)


def test_a_flood_gives_nobody_a_right(flooded, connect):
    gateway, *_ = flooded
    path = gateway.path("device-007")
    for interface, member, signature, body in ((IDENTITY, "GetToken", "t", (0,)), (IDENTITY, "GetConnection", None, ()),
                                               (IDENTITY, "GetEnrollment", None, ()), (IDENTITY, "Reprovision", None, ())):
        other = connect(ANOTHER)
        answer = other.answer_to(other.send(path, NAME, interface, member, signature, *body))
        assert answer.header.fields[HeaderFields.error_name] == f"{BUS}.Error.AccessDenied"


# ---- what waits for polkit ----


def assign(gateway):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    return gateway.path("gateway")


def answer_to(connection, serial):
    """The answer to the call with this number: the name of its error, or None."""
    return connection.answer_to(serial).header.fields.get(HeaderFields.error_name)


def test_a_user_with_many_connections_leaves_places_at_polkit_to_others(gateway, polkit, connect, stranger):
    path = assign(gateway)
    crowd = [connect(SOMEBODY) for _ in range(7)]
    for _ in range(PENDING_MAX // 7):
        for one in crowd:
            one.send(path, NAME, IDENTITY, "GetConnection")
    polkit.wait_for(lambda asked: len(asked) >= AT_POLKIT_MAX)
    other = connect(ANOTHER)
    serial = other.send(path, NAME, IDENTITY, "GetConnection")
    polkit.wait_for(lambda asked: polkit.n_asked_for(other.name) == 1)
    polkit.answer(other.name, True)
    assert answer_to(other, serial) is None
    names = [one.name for one in crowd]
    assert polkit.n_asked_for(*names) == AT_POLKIT_MAX

    for one in crowd:
        one.wait_until_handled(stranger.owner_of(NAME))
    first = [name for name, _ in polkit.asked if name in names]
    for name in first:
        polkit.answer(name, False)
    polkit.wait_for(lambda asked: polkit.n_asked_for(*names) == 2 * AT_POLKIT_MAX)
    then = [name for name, _ in polkit.asked if name in names][AT_POLKIT_MAX:]
    assert set(then) == {name for name in names if first.count(name) < PENDING_MAX // 7}  # the connections take turns


def test_a_user_has_only_so_many_requests_over_all_connections(gateway, polkit, connect):
    path = assign(gateway)
    crowd = [connect(SOMEBODY) for _ in range(4)]
    for _ in range(400):
        for one in crowd:
            one.send(path, NAME, IDENTITY, "GetConnection")
    errors = []
    for one in crowd:
        # The bus keeps the order: what was refused at once is here before this answer.
        last = one.send("/", NAME, "org.freedesktop.DBus.Peer", "Ping")
        while (message := one.receive()).header.fields.get(HeaderFields.reply_serial) != last:
            if message.header.message_type is MessageType.error:
                errors.append(message.header.fields[HeaderFields.error_name])
    assert errors == [f"{BUS}.Error.LimitsExceeded"] * (4 * 400 - PENDING_MAX)


def test_a_request_does_not_wait_for_ever_for_its_turn_at_polkit(gateway, tmp_path, polkit, connect):
    """Before, the last ones would have had to wait seven times as long as the first."""
    clock = Clock(tmp_path)
    clock.rule(gateway)
    path = assign(gateway)
    one = connect(SOMEBODY)
    serials = [one.send(path, NAME, IDENTITY, "GetConnection") for _ in range(PENDING_MAX)]
    polkit.wait_for(lambda asked: len(asked) >= AT_POLKIT_MAX)
    one.wait_until_handled(connect(None).owner_of(NAME))
    clock.pass_by(30)
    gateway.reload()  # makes it look at the time
    errors = [answer_to(one, serial) for serial in serials[AT_POLKIT_MAX:]]
    assert errors == [f"{BUS}.Error.Timeout"] * (PENDING_MAX - AT_POLKIT_MAX)
    clock.close()


def test_the_last_places_at_polkit_are_for_users_who_have_none(gateway, polkit, connect):
    path = assign(gateway)
    others = [user.pw_uid for user in pwd.getpwall() if user.pw_uid not in (0, ANOTHER)]
    for user in others[:10]:
        one = connect(user)
        for _ in range(20):
            one.send(path, NAME, IDENTITY, "GetConnection")
    polkit.wait_for(lambda asked: len(asked) >= 50)
    other = connect(ANOTHER)
    serial = other.send(path, NAME, IDENTITY, "GetConnection")
    polkit.wait_for(lambda asked: polkit.n_asked_for(other.name) == 1)
    polkit.answer(other.name, True)
    assert answer_to(other, serial) is None


def test_what_a_connection_has_asked_for_ends_with_it(gateway, polkit, connect):
    path = assign(gateway)
    gone, stays = connect(SOMEBODY), connect(SOMEBODY)
    for _ in range(PENDING_MAX - 10):
        gone.send(path, NAME, IDENTITY, "GetConnection")
    polkit.wait_for(lambda asked: len(asked) >= AT_POLKIT_MAX)
    serial = stays.send(path, NAME, IDENTITY, "GetConnection")
    gone.close()
    polkit.wait_for(lambda asked: polkit.n_asked_for(stays.name) == 1)
    polkit.answer(gone.name, False)
    polkit.answer(stays.name, True)
    assert answer_to(stays, serial) is None
    stays.send(path, NAME, IDENTITY, "GetConnection")
    polkit.wait_for(lambda asked: polkit.n_asked_for(stays.name) == 2)
    assert polkit.n_asked_for(gone.name) == AT_POLKIT_MAX


@pytest.fixture
def no_matches(bus):
    """The bus lets nobody subscribe to a signal."""
    bus.stop()
    bus.config.write_text(bus.config.read_text().replace("<auth>", '<limit name="max_match_rules_per_connection">0</limit><auth>'))
    bus.start()


def test_where_nothing_can_be_watched_who_has_gone_keeps_his_place_only_for_a_while(no_matches, gateway, polkit, connect, stranger):
    gateway.surroundings["SYSTEMD_BUS_TIMEOUT"] = "10s"  # the deadline of a question to polkit, among others
    gateway.identity()
    gateway.start()
    eventually(lambda: gateway.properties("gateway")["State"] == "assigned")
    path = gateway.path("gateway")
    owner = stranger.owner_of(NAME)
    gone, stays = connect(SOMEBODY), connect(SOMEBODY)
    for _ in range(PENDING_MAX - 10):
        gone.send(path, NAME, IDENTITY, "GetConnection")
    polkit.wait_for(lambda asked: len(asked) >= AT_POLKIT_MAX)
    serial = stays.send(path, NAME, IDENTITY, "GetConnection")
    gone.close()
    polkit.wait_for(lambda asked: polkit.n_asked_for(stays.name) == 1, DEADLINE)
    polkit.answer(stays.name, True)
    assert answer_to(stays, serial) is None
    assert stranger.owner_of(NAME) == owner  # it was not thrown out
    assert len(re.findall("the bus does not tell when a caller goes", gateway.whole_log())) == 1


def n_refused(connection):
    """How many of its requests were refused at once: the bus keeps the order."""
    connection.wait_until_handled(NAME)
    errors = [message.header.fields[HeaderFields.error_name] for message in connection.received
              if message.header.message_type is MessageType.error]
    assert set(errors) <= {f"{BUS}.Error.LimitsExceeded"}
    return len(errors)


def anonymous_kb(gateway):
    status = pathlib.Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1])


@pytest.mark.parametrize("size", [0, 150, 8000])
def test_what_a_user_has_the_daemon_keep_is_bounded(gateway, polkit, connect, size):
    """Before the bus has said who it is, and then, while polkit is silent."""
    path = assign(gateway)
    crowd = [connect(SOMEBODY) for _ in range(4)]
    before = anonymous_kb(gateway)
    for _ in range(400):
        for one in crowd:
            one.send(path, NAME, IDENTITY, "ReportHubFailure", "tsus", 1, "auth", 401, "x" * size)
    polkit.wait_for(lambda asked: len(asked) >= 1)
    assert sum(map(n_refused, crowd)) >= 4 * 400 - PENDING_MAX
    assert anonymous_kb(gateway) - before <= 256


@pytest.fixture
def send_together(gateway, bus):
    """Has each of a crowd send this request n times, and returns a monitor of what the daemon asks the bus, and of its refusals. The
    bus keeps the order: the daemon gets all requests before the bus answers any question of its own."""
    monitor = Stranger(bus.address)

    def send(crowd, n, *request):
        monitor.ask_bus(Monitoring().BecomeMonitor(["member='GetConnectionCredentials'", "type='error'"]))
        gateway.process.send_signal(signal.SIGSTOP)
        for _ in range(n):
            for one in crowd:
                one.send(*request)
        for one in crowd:
            one.ask_bus(message_bus.GetId())
        gateway.process.send_signal(signal.SIGCONT)
        return monitor

    yield send
    monitor.close()


def next_of(monitor):
    """What the daemon asks or answers next, as (member or error, body)."""
    while True:
        message = monitor.receive()
        fields = message.header.fields
        if message.header.message_type is not MessageType.signal:
            return fields.get(HeaderFields.member) or fields.get(HeaderFields.error_name), message.body


def test_the_bus_is_not_asked_for_each_request_who_it_is_from(gateway, polkit, connect, stranger, send_together):
    """Each answer brings a descriptor, of which the bus keeps 64 for one connection. It drops further answers."""
    path = assign(gateway)
    crowd = [connect(SOMEBODY) for _ in range(4)]
    monitor = send_together(crowd, 100, path, NAME, IDENTITY, "ReportHubFailure", "tsus", 1, "auth", 401, "x" * 8000)
    assert sum(map(n_refused, crowd)) >= 4 * 100 - PENDING_MAX
    assert answer_to(stranger, stranger.send(path, NAME, IDENTITY, "GetConnection")) is None  # to root
    asked = []
    while stranger.name not in asked:
        what, body = next_of(monitor)
        asked += body if what == "GetConnectionCredentials" else ()
    assert max(asked.count(one.name) for one in crowd) <= 2, asked


def test_the_bus_is_asked_about_few_connections_at_a_time(gateway, polkit, connect, send_together):
    """More requests are refused than a user may have before the bus has answered, and by then it was asked about few."""
    path = assign(gateway)
    crowd = [connect(SOMEBODY) for _ in range(PENDING_MAX + 20)]
    monitor = send_together(crowd, 1, path, NAME, IDENTITY, "GetConnection")
    seen = []
    while seen.count(f"{BUS}.Error.LimitsExceeded") < 20:
        seen.append(next_of(monitor)[0])
    assert seen.count("GetConnectionCredentials") == AT_BUS_MAX, seen
    polkit.wait_for(lambda asked: len(asked) == AT_POLKIT_MAX)
    for name in [name for name, _ in polkit.asked]:
        polkit.answer(name, True)
    polkit.wait_for(lambda asked: len(asked) >= 2 * AT_POLKIT_MAX)  # the bus was asked about the others, too


def test_requests_that_are_carried_out_count_until_they_are_answered(gateway, tmp_path, connect):
    group = next(g for g in grp.getgrall() if g.gr_gid not in (0, 65534))
    calls = Calls(tmp_path, gateway)
    gateway.identity(access={"Group": group.gr_name})
    gateway.start()
    gateway.wait_for(State="assigned")
    gateway.stop()
    key = f"open {gateway.credentials}/gateway.key"
    calls.hold(key)
    gateway.start()
    path = gateway.path("gateway")
    crowd, root = [connect(SOMEBODY, group.gr_gid) for _ in range(3)], connect(None)
    for _ in range(100):
        for one in crowd:
            one.send(path, NAME, IDENTITY, "GetToken", "t", 0)
    assert sum(map(n_refused, crowd)) == 300 - PENDING_MAX
    for _ in range(PENDING_MAX):
        root.send(path, NAME, IDENTITY, "GetToken", "t", 0)
    assert n_refused(root) == 0
    calls.release()

    def n_tokens(connection):
        with contextlib.suppress(TimeoutError):
            while True:
                connection.received.append(connection.connection.receive(timeout=0.2))
        return sum(message.body[0].startswith("SharedAccessSignature") for message in connection.received
                   if message.header.message_type is MessageType.method_return and message.body)

    eventually(lambda: n_tokens(root) == PENDING_MAX and sum(map(n_tokens, crowd)) == PENDING_MAX, what="all tokens")


def test_arguments_that_are_too_large_are_refused_before_anybody_is_asked(gateway, polkit, connect):
    assign(gateway)
    one = connect(SOMEBODY)
    for method, signature, body in (("Forget", "s", ("x" * 2**20,)), ("Check", "sas", ("gateway", ["x" * 2**20])),
                                    ("Reprovision", "s", ("x" * 10000,))):
        serial = one.send(ROOT, NAME, MANAGER, method, signature, *body)
        assert answer_to(one, serial) in (f"{BUS}.Error.InvalidArgs", f"{NAME}.Error.NoSuchIdentity")
    assert polkit.asked == []


def test_file_descriptors_are_not_kept(gateway, bus, polkit):
    """dbus-broker hangs up on a peer that takes none."""
    path = assign(gateway)
    descriptors = pathlib.Path(f"/proc/{gateway.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    one = Stranger(bus.address, SOMEBODY, enable_fds=True)
    with open("/dev/null", "rb") as file:
        for _ in range(50):
            serial = one.send(path, NAME, IDENTITY, "GetToken", "h", file.fileno())
            assert answer_to(one, serial) == f"{BUS}.Error.InvalidArgs"
    assert len(list(descriptors.iterdir())) < before + 10
    one.close()
    assert gateway.wait_for(State="assigned")["Healthy"]


def test_the_groups_of_the_process_count_also_where_there_is_a_polkit(gateway, polkit):
    """As with SupplementaryGroups= in a unit: the user is in no group."""
    group = next(g for g in grp.getgrall() if g.gr_gid not in (0, 65534))
    gateway.identity(access={"Group": group.gr_name})
    gateway.start()
    gateway.wait_for(State="assigned")
    result = gateway.call_as(SOMEBODY, [group.gr_gid], gateway.path("gateway"), f"{IDENTITY}.GetToken", "uint64:0")
    assert result.code == 0 and "SharedAccessSignature" in result.out, result.err
    assert polkit.asked == []
