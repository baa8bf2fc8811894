# SPDX-License-Identifier: MIT
"""The system bus: there or not, who may what, and what is told in which order."""
import grp
import re
import time

import pytest
from jeepney import DBusErrorResponse, HeaderFields

from emulator import SLOW
from gateway import IDENTITY, MANAGER, NAME, ROOT, can_change_user
from namespace import needs_another_user
from process import DEADLINE, eventually

SEC = 1_000_000
NOBODY = 65534
PROPERTIES = "org.freedesktop.DBus.Properties"
LOG_CONTROL = "org.freedesktop.LogControl1"
LOG_CONTROL_PATH = "/org/freedesktop/LogControl1"


def assign(gateway, **options):
    gateway.identity(**options)
    gateway.start()
    return gateway.wait_for(State="assigned")


def refused(gateway, name, method, signature=None, *arguments):
    """The name and the message of the error."""
    with pytest.raises(DBusErrorResponse) as error:
        gateway.call(name, method, signature, *arguments)
    return error.value.name.removeprefix(f"{NAME}.Error."), error.value.data[0]


# ---- a bus that is there or not ----


def test_without_a_bus_it_gets_ready_and_provisions(gateway, bus):
    bus.stop()
    gateway.identity()
    gateway.start()
    eventually(lambda: "connection.json" in gateway.files(), what="an assignment")
    assert "READY=1" in gateway.notify.lines


def test_the_name_is_claimed_when_a_bus_appears(gateway, bus):
    bus.stop()
    gateway.identity()
    gateway.start()
    bus.start()
    assert gateway.wait_for(State="assigned")["Healthy"]


def test_a_bus_that_restarts_finds_all_as_it_was(gateway, bus, emulator):
    before = assign(gateway)
    pid = gateway.pid
    bus.stop()
    gateway.wait_for_log("D-Bus: the connection is lost")
    bus.start()
    assert gateway.wait_for(State="assigned") == before
    assert gateway.pid == pid and gateway.is_running() and len(emulator.requests("register")) == 1
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0


def test_a_name_that_is_taken_is_waited_for(gateway):
    other = gateway.client()
    other.own(NAME)
    gateway.identity()
    gateway.start()
    gateway.wait_for_log(f"the name {re.escape(NAME)} is taken")
    eventually(lambda: "connection.json" in gateway.files(), what="an assignment")
    other.close()
    gateway.wait_for(State="assigned")


def test_the_name_is_found_to_be_ours_also_when_the_signal_is_lost(bus, gateway):
    bus.stop()
    bus.config.write_text(bus.config.read_text().replace("</policy>", '<deny receive_interface="org.freedesktop.DBus" receive_member="NameAcquired"/></policy>'))
    bus.start()
    other = gateway.client()
    other.own(NAME)
    gateway.start()
    gateway.wait_for_log(f"the name {re.escape(NAME)} is taken")
    other.close()
    gateway.wait_for_log(f"the name {re.escape(NAME)} is ours")
    assert gateway.properties()["State"] == "idle"


# ---- who may what ----

USE = [("GetConnection",), ("GetToken", "uint64:0"), ("ReportHubFailure", "uint64:1", "string:throttled", "uint32:429", "string:"),
       ("ReportHubConnected", "uint64:1"), ("GetEnrollment",)]
MANAGE = [(ROOT, f"{MANAGER}.Reprovision", "string:gateway"), (ROOT, f"{MANAGER}.Reload"), (ROOT, f"{MANAGER}.Forget", "string:gone"),
          (LOG_CONTROL_PATH, f"{PROPERTIES}.Set", f"string:{LOG_CONTROL}", "string:LogLevel", "variant:string:debug")]


@pytest.fixture
def owned(gateway):
    """Assigned, and of a group that somebody else can be a member of."""
    if not can_change_user():
        pytest.skip("only root can be somebody else")
    gateway.gid = next(g.gr_gid for g in grp.getgrall() if g.gr_gid not in (0, NOBODY))
    assign(gateway, access={"Group": grp.getgrgid(gateway.gid).gr_name})
    return gateway


@pytest.mark.parametrize("arguments", MANAGE, ids=lambda a: a[1])
@pytest.mark.parametrize("is_member", [False, True], ids=["stranger", "member"])
def test_nobody_but_root_may_manage_where_there_is_no_polkit(owned, arguments, is_member):
    result = owned.call_as(NOBODY, [owned.gid] if is_member else [], *arguments)
    assert result.code != 0 and "org.freedesktop.DBus.Error.AccessDenied" in result.err


def test_a_member_may_not_reprovision(owned, emulator):
    result = owned.call_as(NOBODY, [owned.gid], owned.path("gateway"), f"{IDENTITY}.Reprovision")
    assert "org.freedesktop.DBus.Error.AccessDenied" in result.err
    assert len(emulator.requests("register")) == 1


@pytest.mark.parametrize("arguments", USE, ids=lambda a: a[0])
def test_a_stranger_may_not_use(owned, arguments):
    result = owned.call_as(NOBODY, [], owned.path("gateway"), f"{IDENTITY}.{arguments[0]}", *arguments[1:])
    assert result.code != 0 and "org.freedesktop.DBus.Error.AccessDenied" in result.err
    assert "SharedAccessSignature" not in result.out + result.err


@pytest.mark.parametrize("arguments", USE, ids=lambda a: a[0])
def test_a_member_of_the_group_may_use(owned, arguments):
    result = owned.call_as(NOBODY, [owned.gid], owned.path("gateway"), f"{IDENTITY}.{arguments[0]}", *arguments[1:])
    assert result.code == 0, result.err


def test_a_member_of_one_identity_may_not_use_another(owned):
    owned.identity("other", access={"Group": "root"})
    owned.reload()
    owned.wait_for("other", State="assigned")
    result = owned.call_as(NOBODY, [owned.gid], owned.path("other"), f"{IDENTITY}.GetConnection")
    assert "org.freedesktop.DBus.Error.AccessDenied" in result.err


@pytest.mark.parametrize("arguments", [
    (f"{PROPERTIES}.GetAll", f"string:{IDENTITY}"), (f"{IDENTITY}.GetHistory",), ("org.freedesktop.DBus.Introspectable.Introspect",),
], ids=lambda a: a[0])
def test_anyone_may_read_an_identity(owned, arguments):
    result = owned.call_as(NOBODY, [], owned.path("gateway"), *arguments)
    assert result.code == 0, result.err


@pytest.mark.parametrize("arguments", [
    (f"{MANAGER}.ListIdentities",), (f"{MANAGER}.GetIdentity", "string:gateway"), (f"{PROPERTIES}.GetAll", f"string:{MANAGER}"),
    ("org.freedesktop.DBus.ObjectManager.GetManagedObjects",), (f"{MANAGER}.GetAllIdentities",),
], ids=lambda a: a[0])
def test_anyone_may_read_the_manager(owned, arguments):
    result = owned.call_as(NOBODY, [], ROOT, *arguments)
    assert result.code == 0, result.err


def test_nothing_that_all_can_read_is_secret(owned):
    key = (owned.credentials / "gateway.key").read_text().strip()
    token = owned.files()["token"].strip()
    owned.dpsctl("reprovision", "gateway", "--wait")
    said = [owned.call_as(NOBODY, [], ROOT, "org.freedesktop.DBus.ObjectManager.GetManagedObjects").out,
            owned.call_as(NOBODY, [], ROOT, f"{MANAGER}.GetAllIdentities").out,
            owned.call_as(NOBODY, [], owned.path("gateway"), f"{IDENTITY}.GetHistory").out, owned.log, str(owned.notify.lines)]
    assert "assigned" in said[0] + said[1]
    assert not [text for text in said if key in text or token in text or "SharedAccessSignature" in text]


@needs_another_user
def test_the_files_are_of_the_group_and_closed_to_others(owned):
    directory = owned.run / "gateway"
    assert (directory.stat().st_gid, directory.stat().st_mode & 0o777) == (owned.gid, 0o750)
    for path in directory.iterdir():
        assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (owned.gid, 0o640), path


# ---- what is asked for ----


def test_all_identities_at_once_are_what_their_objects_are(gateway):
    gateway.identity()
    gateway.write_conf("north", "[Provisioning]\nIdScope=0ne00AABBCC\n[Attestation]\nKey=/nowhere\n")
    gateway.start()
    gateway.wait_for(State="assigned")
    client = gateway.client()
    columns = client.call(ROOT, MANAGER, "GetAllIdentities")[0]
    objects = client.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]
    client.close()
    rows = [{key: (f"{kind[1:]}", values[k]) for key, (kind, values) in columns.items()} for k in range(2)]
    assert list(columns)[0] == "Name" and {row["Name"][1] for row in rows} == {"gateway", "north"}
    assert {gateway.path(row["Name"][1]): row for row in rows} == {
        path: interfaces[IDENTITY] for path, interfaces in objects.items() if IDENTITY in interfaces}


def test_the_sixth_reprovision_is_refused_with_the_time_when_it_is_possible(gateway, emulator):
    assign(gateway)
    for _ in range(5):
        assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    name, message = refused(gateway, "gateway", "Reprovision")
    assert name == "RateLimited"
    assert 0 < int(re.search(r"(\d+) s\b", message).group(1)) <= 60
    result = gateway.dpsctl("reprovision", "gateway")
    assert result.code == 8 and re.search(r"\d+ s\b", result.err)
    assert len(emulator.requests("register")) == 6


def test_the_limit_is_each_identitys_own(gateway):
    gateway.identity("other")
    assign(gateway)
    gateway.wait_for("other", State="assigned")
    for _ in range(5):
        gateway.call("gateway", "Reprovision")
    assert refused(gateway, "gateway", "Reprovision")[0] == "RateLimited"
    gateway.call("other", "Reprovision")


def test_a_request_joins_an_attempt_in_flight(gateway, emulator):
    key = emulator.enroll("gateway", **SLOW)
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, "register")
    client = gateway.client()
    client.listen()
    path = gateway.path("gateway")
    jobs = [client.call(path, IDENTITY, "Reprovision")[0] for _ in range(2)]
    emulator.assign("gateway")
    finished = [client.wait_for_signal("ReprovisionFinished") for _ in range(2)]
    assert finished == [(job, True, "") for job in jobs] and len(set(jobs)) == 2
    assert len(emulator.requests("register")) == 1
    client.close()


def signals_until(client, member):
    """(member, body) of all that came, to the first of that name."""
    seen = []
    end = time.monotonic() + DEADLINE
    while not seen or seen[-1][0] != member:
        message = client.next_signal(end)
        seen.append((message.header.fields.get(HeaderFields.member), message.body))
    return seen


def test_the_end_of_a_job_is_reported_after_what_it_brought(gateway, emulator):
    before = assign(gateway)
    emulator.set("gateway", iotHubs="hub-2.example" if before["AssignedHub"] == "hub-1.example" else "hub-1.example")
    client = gateway.client()
    client.listen()
    job = client.call(gateway.path("gateway"), IDENTITY, "Reprovision")[0]
    seen = signals_until(client, "ReprovisionFinished")
    assert seen[-1][1] == (job, True, "")
    changed = {}
    for member, body in seen[:-1]:
        if member == "PropertiesChanged" and body[0] == IDENTITY:
            changed |= body[1]
    assert changed["AssignedHub"][1] != before["AssignedHub"] and changed["Generation"][1] == 2
    client.close()


def test_a_failed_job_is_reported_with_the_reason(gateway, emulator):
    assign(gateway)
    emulator.set("gateway", provisioningStatus="disabled")
    client = gateway.client()
    client.listen()
    job = client.call(gateway.path("gateway"), IDENTITY, "Reprovision")[0]
    finished = client.wait_for_signal("ReprovisionFinished")
    assert finished[:2] == (job, False) and finished[2] == gateway.properties("gateway")["LastError"]
    client.close()


def test_what_an_assignment_brings_is_reported_in_one_signal(gateway, emulator):
    key = emulator.enroll("gateway", **SLOW)
    gateway.identity(key=key)
    gateway.start()
    client = gateway.client()
    client.listen()
    emulator.assign("gateway")
    gateway.wait_for(State="assigned")
    end = time.monotonic() + DEADLINE
    while True:
        body = client.next_signal(end).body
        if body[0] == IDENTITY and body[1].get("AssignedHub", ("s", ""))[1]:
            break
    assert {"State", "AssignedHub", "DeviceId", "Generation", "Healthy", "AssignedAt", "TokenExpiresAt", "RenewAt", "Transport",
            "Substatus", "StateSince", "LastSuccessAt", "NextAttemptAt"} - set(body[1]) <= {"Transport"}
    client.close()


def test_identities_that_come_and_go_are_reported(gateway):
    gateway.start()
    client = gateway.client()
    client.listen()
    gateway.identity("new")
    gateway.reload()
    assert client.wait_for_signal("IdentityAdded") == ("new", gateway.path("new"))
    path = gateway.path("new")
    (gateway.configuration / "new.conf").unlink()
    gateway.reload()
    assert client.wait_for_signal("IdentityRemoved") == ("new", path)
    assert refused(gateway, None, "GetIdentity", "s", "new")[0] == "NoSuchIdentity"
    client.close()


# ---- what programs get ----


def test_a_token_lives_as_long_as_asked_but_not_longer_than_configured(gateway, emulator):
    assign(gateway, hub={"TokenLifetime": "2h"})
    for lifetime, expected in ((60, 60), (7200, 7200), (10 ** 9, 7200), (2 ** 64 - 1, 7200), (0, 7200)):
        begin = int(time.time())
        token, expires_at = gateway.call("gateway", "GetToken", "t", lifetime)
        assert begin + expected <= expires_at / SEC <= time.time() + expected
        assert f"&se={expires_at // SEC}" in token
        connection = gateway.connection()
        assert emulator.hub_connack(connection["clientId"], connection["username"], token) == 0


def test_the_connection_is_the_one_in_the_file(gateway):
    assign(gateway)
    assert gateway.call("gateway", "GetConnection")[0].strip() == gateway.files()["connection.json"].strip()


@pytest.mark.parametrize("method, arguments", [
    ("GetConnection", ()), ("GetToken", ("t", 0)), ("ReportHubFailure", ("tsus", 1, "auth", 401, "")), ("ReportHubConnected", ("t", 1)),
])
def test_without_an_assignment_the_error_says_why(gateway, emulator, method, arguments):
    key = emulator.enroll("gateway", provisioningStatus="disabled")
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(State="failed")
    name, message = refused(gateway, "gateway", method, *arguments)
    assert name == "NotAssigned" and "disabled" in message and "next try" in message


def test_a_certificate_has_no_tokens(gateway, emulator):
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    certificate, key = emulator.certificate("gateway")
    key.chmod(0o400)
    assign(gateway, method="x509", attestation={"Certificate": certificate, "PrivateKey": key})
    assert refused(gateway, "gateway", "GetToken", "t", 0)[0] == "NotSupported"


def test_a_key_that_is_gone_is_reported(gateway):
    assign(gateway)
    (gateway.credentials / "gateway.key").unlink()
    name, message = refused(gateway, "gateway", "GetToken", "t", 0)
    assert name == "KeyUnavailable" and "gateway.key" in message
    assert gateway.properties("gateway")["State"] == "assigned" and gateway.files()["token"]


def test_an_unknown_name_is_reported(gateway):
    gateway.start()
    name, message = refused(gateway, None, "Reprovision", "s", "nobody")
    assert name == "NoSuchIdentity" and "nobody" in message


# ---- what programs tell ----


def report(gateway, generation, kind, code=0):
    return gateway.call("gateway", "ReportHubFailure", "tsus", generation, kind, code, "as a test")


@pytest.mark.parametrize("kind, code", [("auth", 401), ("not-found", 404)])
def test_a_hub_that_refuses_is_a_reason_to_ask_dps(gateway, emulator, kind, code):
    before = assign(gateway, provisioning={"Splay": "0"})
    emulator.set("gateway", iotHubs="hub-2.example" if before["AssignedHub"] == "hub-1.example" else "hub-1.example")
    registering, _ = report(gateway, 1, kind, code)
    assert registering
    after = gateway.wait_for(Generation=2)
    assert after["AssignedHub"] != before["AssignedHub"] and gateway.connection()["hub"] == after["AssignedHub"]
    line = gateway.wait_for_log("has moved")
    assert before["AssignedHub"] in line and after["AssignedHub"] in line


def test_a_shell_script_reports_that_the_hub_refused_it(gateway, emulator):
    before = assign(gateway, provisioning={"Splay": "0"})
    assert gateway.dpsctl("report-hub-failure", "gateway", "weather").code == 2
    assert gateway.dpsctl("report-hub-failure", "gateway", "auth", "four").code == 2
    assert gateway.dpsctl("report-hub-failure", "nobody", "auth").code == 4
    noted = gateway.dpsctl("report-hub-failure", "gateway", "throttled", "429")
    assert noted.code == 0 and "gateway: noted" in noted.out
    stale = gateway.dpsctl("report-hub-failure", "gateway", "auth", "401", IOTHUB_GENERATION="7")
    assert stale.code == 0 and "gateway: noted" in stale.out
    assert gateway.properties("gateway")["HubLastFailureAt"] > 0
    good = gateway.dpsctl("report-hub-connected", "gateway")
    assert good.code == 0 and "gateway: noted" in good.out and gateway.dpsctl("report-hub-connected", "nobody").code == 4
    after = gateway.properties("gateway")
    assert after["HubLastFailureAt"] == 0 and after["HubLastSeenAt"] > 0
    emulator.set("gateway", iotHubs="hub-2.example" if before["AssignedHub"] == "hub-1.example" else "hub-1.example")
    told = gateway.dpsctl("report-hub-failure", "gateway", "auth", "401", "--json=short")
    assert told.code == 0 and told.json["Registering"] is True
    gateway.wait_for(Generation=2)


def test_a_report_is_splayed(gateway, emulator):
    assign(gateway, provisioning={"Splay": "1h"})
    registering, next_attempt_at = report(gateway, 1, "auth", 401)
    assert registering and next_attempt_at > time.time() * SEC
    assert gateway.properties("gateway")["NextAttemptAt"] == next_attempt_at or \
        abs(gateway.properties("gateway")["NextAttemptAt"] - next_attempt_at) < SEC
    assert len(emulator.requests("register")) == 1


def test_a_stale_report_has_moved_already(gateway, emulator):
    before = assign(gateway, provisioning={"Splay": "0"})
    emulator.set("gateway", iotHubs="hub-2.example" if before["AssignedHub"] == "hub-1.example" else "hub-1.example")
    report(gateway, 1, "auth", 401)
    gateway.wait_for(Generation=2)
    assert report(gateway, 1, "auth", 401) == (False, 0)
    assert len(emulator.requests("register")) == 2


def test_a_busy_hub_is_no_reason_to_ask_dps(gateway, emulator):
    assign(gateway, provisioning={"Splay": "0"})
    for _ in range(20):
        assert not report(gateway, 1, "throttled", 429)[0]
    assert len(emulator.requests("register")) == 1


def test_ten_failures_in_a_row_are_a_reason_to_ask_dps(gateway, emulator):
    assign(gateway, provisioning={"Splay": "0"})
    assert [report(gateway, 1, "network")[0] for _ in range(10)] == [False] * 9 + [True]
    emulator.wait_for_requests(2, "register")


def test_a_connection_in_between_begins_the_count_anew(gateway):
    assign(gateway, provisioning={"Splay": "0"})
    for _ in range(9):
        report(gateway, 1, "server", 500)
    gateway.call("gateway", "ReportHubConnected", "t", 1)
    assert not report(gateway, 1, "server", 500)[0]


def test_the_same_hub_again_is_no_loop(gateway, emulator):
    before = assign(gateway, provisioning={"Splay": "0"})
    assert report(gateway, 1, "auth", 401)[0]
    gateway.wait_for(check=lambda p: p["LastSuccessAt"] > before["LastSuccessAt"])
    generation = gateway.properties("gateway")["Generation"]
    for _ in range(5):
        assert not report(gateway, generation, "auth", 401)[0]
    assert len(emulator.requests("register")) == 2


def test_a_hub_that_moves_with_each_answer_is_no_loop(gateway, emulator):
    before = assign(gateway, provisioning={"Splay": "0"})
    emulator.set("gateway", iotHubs="hub-2.example" if before["AssignedHub"] == "hub-1.example" else "hub-1.example")
    assert report(gateway, 1, "auth", 401)[0]
    assert gateway.wait_for(Generation=2)["AssignedHub"] != before["AssignedHub"]
    emulator.set("gateway", iotHubs=before["AssignedHub"])
    for _ in range(5):
        assert not report(gateway, 2, "auth", 401)[0]
    assert len(emulator.requests("register")) == 2


def test_a_hub_that_lets_in_and_then_refuses_is_no_loop(gateway, emulator):
    before = assign(gateway, provisioning={"Splay": "0"})
    assert report(gateway, 1, "auth", 401)[0]
    generation = gateway.wait_for(check=lambda p: p["LastSuccessAt"] > before["LastSuccessAt"])["Generation"]
    for _ in range(5):
        gateway.call("gateway", "ReportHubConnected", "t", generation)
        assert not report(gateway, generation, "auth", 401)[0]
    assert len(emulator.requests("register")) == 2


def test_a_hub_that_was_reached_is_remembered_with_its_time(gateway):
    assign(gateway)
    assert gateway.properties("gateway")["HubLastSeenAt"] == 0
    gateway.call("gateway", "ReportHubConnected", "t", 1)
    assert abs(gateway.wait_for(check=lambda p: p["HubLastSeenAt"] > 0)["HubLastSeenAt"] / SEC - time.time()) < DEADLINE


def test_an_unknown_kind_of_failure_is_refused(gateway):
    assign(gateway)
    name, message = refused(gateway, "gateway", "ReportHubFailure", "tsus", 1, "weather", 0, "")
    assert name == "org.freedesktop.DBus.Error.InvalidArgs" and "not-found" in message


# ---- log level ----


def test_the_log_level_is_read_and_set_on_the_fly(gateway):
    assign(gateway)
    assert gateway.dpsctl("log-level").out == "info\n" and "<7>" not in gateway.log
    assert gateway.dpsctl("log-level", "debug").code == 0
    assert gateway.dpsctl("log-level").out == "debug\n"
    gateway.dpsctl("reprovision", "gateway", "--wait")
    for step in ("connects to", "is logged in", "register", "poll", "answers 200"):
        gateway.wait_for_log(f"^<7>gateway: .*{step}")
    assert gateway.dpsctl("log-level", "loud").code != 0
    assert gateway.dpsctl("log-level").out == "debug\n"
