# SPDX-License-Identifier: MIT
"""dpsctl check, which the daemon carries out: what a healthy device looks like, and how each obstacle is named."""
import concurrent.futures
import json
import os
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jeepney import DBusErrorResponse

from certificates import Issuer, key_pem, name, pem
from clock import YEAR, Clock
from emulator import Emulator
from fakedpsd import Refusal, identity
from gateway import MANAGER, ROOT
from hostile import nothing, silence
from namespace import Network, mounted, needs_another_user, needs_root
from process import BUILD, DEADLINE, free_port
from proxies import PASSWORD, USER, HostileProxy, Microsocks, Tinyproxy, available, says
from tpm import modules

DPS = "global.azure-devices-provisioning.net"


def check(gateway, *arguments, **options):
    """The exit code, and the rows as a list."""
    result = gateway.dpsctl("check", "--json=short", *arguments, **options)
    return result.code, result.json["checks"] if result.out else result.err


def rows(found, about):
    """Result and text of the rows about something."""
    return [(row["Result"], row["Text"]) for row in found if row["Check"] == about]


def one(found, about):
    (row,) = rows(found, about)
    return row


def failures(found):
    return {row["Check"] for row in found if row["Result"] == "failed"}


def start_unassigned(gateway, **sections):
    """Starts dpsd, and adds an identity that it has not read: nothing registers, and check can look at it."""
    gateway.start()
    gateway.identity(**sections)
    return gateway


# Healthy

def test_a_healthy_device_has_no_failure_and_is_let_in_without_a_registration(gateway, emulator):
    start_unassigned(gateway)
    code, found = check(gateway, "gateway")
    assert code == 0 and not failures(found), found
    result, text = one(found, "log-in")
    assert result == "ok" and "nothing was registered" in text
    assert one(found, "TLS")[0] == "ok" and one(found, "key")[1].endswith("gateway.key signs")
    events = [entry["event"] for entry in emulator.requests(registration_id="gateway")]
    assert events[:3] == ["connect", "subscribe", "poll"] and "register" not in events and not (gateway.state / "gateway.json").exists()


def test_a_file_that_the_daemon_has_not_read_is_a_warning(gateway):
    start_unassigned(gateway)
    _, found = check(gateway)
    assert any(result == "warning" and "dpsctl reload" in text for result, text in rows(found, "configuration"))


def test_json_has_four_texts_in_each_row(gateway):
    start_unassigned(gateway)
    document = gateway.dpsctl("check", "--json=short").json
    assert document["version"] == 1 and document["checks"]
    for row in document["checks"]:
        assert set(row) == {"Name", "Check", "Result", "Text"} and all(isinstance(value, str) for value in row.values())
        assert row["Result"] in ("ok", "skipped", "warning", "failed")


def test_a_person_sees_a_sign_for_each_result(gateway):
    start_unassigned(gateway)
    out = gateway.dpsctl("check", "gateway", "--offline").out
    assert "✓ ok" in out and "- skipped" in out


def test_offline_touches_no_network(gateway, emulator):
    start_unassigned(gateway)
    code, found = check(gateway, "--offline")
    assert code == 0 and one(found, "connection") == ("skipped", "--offline")
    assert not rows(found, "log-in") and not emulator.requests()


# Obstacles

def test_a_blocked_port_is_named(gateway):
    port = free_port()
    start_unassigned(gateway, provisioning={"MqttPort": port})
    code, found = check(gateway, "gateway")
    assert code == 1 and one(found, "connection") == (
        "failed", f"127.0.0.1, port {port}: refused; is the port open in the firewall?")
    assert one(found, "log-in") == ("skipped", "the endpoint cannot be reached by MQTT")


@needs_root
def test_a_port_that_a_firewall_drops_is_named(gateway, emulator):
    network = Network()
    try:
        network.set_up()
        subprocess.run([*network.wrapper, "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }; "
                        "add rule inet t c tcp dport 8883 drop"], check=True, stdin=subprocess.DEVNULL)
        gateway.wrapper = network.wrapper
        start_unassigned(gateway, provisioning={"MqttPort": 8883})
        code, found = check(gateway, "gateway")
        assert code == 1
        assert one(found, "connection") == (
            "failed", "127.0.0.1, port 8883: no answer within 3 s: a firewall drops connections to this port")
    finally:
        network.close()


def test_a_wrong_key_is_refused_and_nothing_is_registered(gateway, emulator):
    emulator.enroll("gateway")
    start_unassigned(gateway, key="d3Jvbmcta2V5LW9mLXNpeHRlZW4tYnl0ZXM=")
    code, found = check(gateway, "gateway")
    result, text = one(found, "log-in")
    assert code == 1 and failures(found) == {"log-in"}
    assert result == "failed" and "(auth)" in text and "check that Key= is this enrollment's key" in text
    assert "dpsctl check" not in str(found)
    assert not emulator.requests("register")


def test_a_wrong_key_that_is_refused_at_once_is_named(gateway, emulator):
    emulator.enroll("gateway")
    emulator.set("*", behaviour={"badSignature": "connect"})
    start_unassigned(gateway, key="d3Jvbmcta2V5LW9mLXNpeHRlZW4tYnl0ZXM=")
    _, found = check(gateway, "gateway")
    result, text = one(found, "log-in")
    assert result == "failed" and "(auth)" in text and "compare ID scope, registration id and key" in text
    assert [entry["event"] for entry in emulator.requests()] == ["connect"]


def test_a_wrong_clock_is_named_and_given_as_the_reason(gateway, emulator, tmp_path):
    clock = Clock(tmp_path)
    try:
        clock.rule(gateway)
        clock.shift(-30 * YEAR, told=False)
        start_unassigned(gateway)
        code, found = check(gateway, "gateway")
        assert code == 1
        result, text = one(check(gateway, "--offline")[1], "clock")
        assert result == "failed" and "behind" in text and "timedatectl" in text
        result, text = one(found, "TLS")
        assert result == "failed" and "the clock is at least" in text
    finally:
        clock.close()


def test_the_clock_is_as_synchronised_as_the_daemon_thinks(gateway, tmp_path):
    clock = Clock(tmp_path)
    try:
        clock.rule(gateway)
        start_unassigned(gateway)
        assert one(check(gateway, "--offline")[1], "clock")[0] == "warning"
        clock.synchronize()
        result, text = one(check(gateway, "--offline")[1], "clock")
        assert result == "ok" and text.endswith(", synchronised")
    finally:
        clock.close()


@pytest.mark.parametrize("spoil, words", [
    (lambda path: path.chmod(0o644), "chmod"), (lambda path: path.write_text("not base64!"), "not base64"),
    (lambda path: path.unlink(), "No such file")])
def test_a_key_file_that_cannot_be_used_is_named(gateway, spoil, words):
    path = gateway.directory / "device.key"
    path.write_text("a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==")
    path.chmod(0o600)
    spoil(path)
    start_unassigned(gateway, attestation={"Key": path})
    code, found = check(gateway, "gateway")
    result, text = one(found, "key")
    assert code == 1 and result == "failed" and words in text and "gateway.conf:" in text
    assert one(found, "log-in") == ("skipped", "there is no key or certificate that can be used")


def test_a_hanging_key_file_costs_its_row_and_not_the_daemon(gateway):
    path = gateway.directory / "device.key"
    os.mkfifo(path, 0o600)
    start_unassigned(gateway, attestation={"Key": path})
    code, found = check(gateway, "gateway")
    assert code == 1 and one(found, "key")[0] == "failed"
    assert gateway.properties()["NIdentities"] == 0


# Certificates

def x509_identity(gateway, cert_key=None, chain=b"", key=None, issuer=None, **validity):
    key = key or ec.generate_private_key(ec.SECP256R1())
    certificate = (issuer or Issuer("factory")).sign(name("gateway"), key, [], **validity)
    paths = [gateway.directory / "gw.pem", gateway.directory / "gw.key"]
    paths[0].write_bytes(pem(certificate) + chain)
    paths[1].write_bytes(key_pem(cert_key or key))
    paths[1].chmod(0o600)
    return start_unassigned(gateway, method="x509", attestation={"Certificate": paths[0], "PrivateKey": paths[1]})


def test_a_key_of_another_certificate_is_named(gateway):
    x509_identity(gateway, cert_key=ec.generate_private_key(ec.SECP256R1()))
    code, found = check(gateway, "gateway")
    result, text = one(found, "key")
    assert code == 1 and result == "failed" and "its key goes here" in text


def test_an_expired_device_certificate_is_named(gateway):
    x509_identity(gateway, not_before=-9, not_after=-1)
    code, found = check(gateway, "gateway", "--offline")
    assert code == 1 and one(found, "certificate")[0] == "failed" and "expired" in one(found, "certificate")[1]


def test_a_chain_in_the_wrong_order_is_named(gateway):
    x509_identity(gateway, chain=pem(Issuer("somebody else").certificate))
    code, found = check(gateway, "gateway", "--offline")
    assert code == 1 and "certificate 1 was not issued by certificate 2" in one(found, "chain")[1]


def test_a_chain_without_its_intermediate_is_warned_of(gateway):
    x509_identity(gateway, issuer=Issuer("line 7", Issuer("root")))
    code, found = check(gateway, "gateway", "--offline")
    result, text = one(found, "chain")
    assert code == 0 and result == "warning"
    assert 'the certificate of the device\'s issuer, "line 7", is not in the file' in text


def test_a_chain_with_its_intermediate_is_good(gateway):
    line = Issuer("line 7", Issuer("root"))
    x509_identity(gateway, issuer=line, chain=pem(line.certificate))
    _, found = check(gateway, "gateway", "--offline")
    assert one(found, "chain")[0] == "ok"


def test_a_key_that_azure_does_not_take_is_warned_of(gateway):
    x509_identity(gateway, key=ed25519.Ed25519PrivateKey.generate())
    _, found = check(gateway, "gateway", "--offline")
    assert [text for result, text in rows(found, "certificate") if result == "warning" and "Azure takes RSA and EC keys only" in text]
    assert one(found, "key")[0] == "ok"


# The server

@pytest.mark.parametrize("kind, words", [
    ("expired", "valid only until"), ("wrong-host", "elsewhere.example"), ("untrusted", "is not trusted"),
    ("unchained", "the server sent: server < intermediate CA)")])
def test_a_bad_certificate_of_the_server_is_named(lone_gateway, make_peer, kind, words):
    lone_gateway.start()
    make_peer("gateway").spoil({}, kind)
    code, found = check(lone_gateway, "gateway")
    result, text = one(found, "TLS")
    assert code == 1 and result == "failed" and words in text, text


# Rights, limits, what is told

@needs_another_user
def test_a_stranger_may_not_check(gateway):
    start_unassigned(gateway)
    result = gateway.call_as(65534, [], ROOT, f"{MANAGER}.Check", "string:gateway", "array:string:")
    assert result.code != 0 and "AccessDenied" in result.err + result.out


def test_an_identity_without_a_file_is_unknown(gateway):
    gateway.start()
    result = gateway.dpsctl("check", "nope")
    assert result.code == 4 and "there is no nope.conf, or it is masked" in result.err
    with pytest.raises(DBusErrorResponse, match="NoSuchIdentity"):
        gateway.call(None, "Check", "sas", "../etc/passwd", [])


def test_an_unknown_option_is_refused(gateway):
    gateway.start()
    with pytest.raises(DBusErrorResponse, match="InvalidArgs"):
        gateway.call(None, "Check", "sas", "", ["everything"])


def test_no_secret_is_reported(gateway, emulator):
    key = emulator.enroll("gateway")
    start_unassigned(gateway, key=key)
    out = gateway.dpsctl("check", "gateway").out
    assert key not in out and "SharedAccessSignature" not in out
    assert key not in gateway.whole_log()


def test_redact_masks_what_is_private(gateway):
    start_unassigned(gateway)
    out = gateway.dpsctl("check", "gateway", "--redact").out
    assert "0ne00AABBCC" not in out and "scope-1" in out and "id-1" in out


# Beside others

def test_more_than_four_checks_at_once_are_refused_and_the_daemon_answers(lone_gateway, make_peer):
    lone_gateway.start()
    make_peer("gateway", {"hello": silence})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(lone_gateway.dpsctl, "check", "gateway", timeout=100) for _ in range(8)]
        assert lone_gateway.properties()["State"] == "idle"
        codes = sorted(run.result().code for run in runs)
    assert codes[:4] == [1] * 4 and codes.count(8) >= 1, codes
    assert lone_gateway.dpsctl("check", "--offline").code == 0


# Without the daemon

def test_without_the_daemon_the_same_is_looked_at(gateway, emulator):
    gateway.identity()
    code, found = check(gateway, "gateway")
    assert code == 0 and one(found, "log-in")[0] == "ok", found
    assert not [entry for entry in emulator.requests() if entry["event"] == "register"]


def test_beside_a_dpsd_that_the_bus_does_not_reach_there_is_no_login(gateway, bus, emulator):
    gateway.start()
    gateway.identity()
    bus.stop()
    code, found = check(gateway, "gateway")
    assert code == 0
    assert one(found, "log-in") == ("skipped", "a dpsd runs that D-Bus does not reach, and may be registering")
    bus.start()


# Names, and an intercepting proxy

def hosts(gateway, text):
    """Gives dpsd an /etc/hosts of its own."""
    path = gateway.directory / "hosts"
    path.write_text(text)
    gateway.wrapper = mounted(f"mount --bind {path} /etc/hosts")


@needs_root
@pytest.mark.parametrize("lines, results", [
    ("127.0.0.1 dps.example\n", ["ok", "ok"]), ("fd00::7 dps.example\n", ["ok", "ok"]),
    ("127.0.0.1 dps.example\nfd00::7 dps.example\n", ["ok", "ok"])], ids=["A", "AAAA", "both"])
def test_both_kinds_of_address_are_told_apart(gateway, lines, results):
    hosts(gateway, lines)
    start_unassigned(gateway, provisioning={"Endpoint": "dps.example"})
    _, found = check(gateway, "gateway")
    texts = [text for _, text in rows(found, "name")]
    assert [result for result, _ in rows(found, "name")] == results, found
    assert ("A (IPv4): 127.0.0.1" in texts[0]) == ("127.0.0.1" in lines)
    assert ("AAAA (IPv6): fd00::7" in texts[1]) == ("fd00::7" in lines)
    assert [text for text in texts if text.endswith("no address, the others are used")] == [
        text for text in texts if "127.0.0.1" not in text and "fd00::7" not in text]


def test_a_name_without_any_address_is_a_failure(gateway):
    start_unassigned(gateway, provisioning={"Endpoint": "dps.invalid"})
    code, found = check(gateway, "gateway")
    assert code == 1 and rows(found, "name") and all(
        result == "failed" and "resolvectl query dps.invalid" in text for result, text in rows(found, "name"))


@pytest.mark.parametrize("is_trusted, result, words", [
    (False, "failed", "which is not a CA of Azure: a proxy intercepts the connection"),
    (True, "warning", "a proxy intercepts the connection, and works as long as its CA is trusted here")])
def test_an_intercepting_proxy_is_named(lone_gateway, make_peer, is_trusted, result, words):
    lone_gateway.start()
    peer = make_peer("gateway")
    issuer = peer.pki.issuer if is_trusted else Issuer("Corporate Inspection")
    key, certificate = peer.pki.leaf(issuer, hosts=[x509.DNSName(DPS)])
    path = peer.pki.directory / "proxy.pem"
    path.write_bytes(key_pem(key) + pem(certificate))
    peer.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    peer.tls.load_cert_chain(path)
    lone_gateway.identity(key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==",
                          provisioning={"Endpoint": DPS, "Address": "127.0.0.1"})
    _, found = check(lone_gateway, "gateway")
    assert one(found, "TLS")[0] == result and words in one(found, "TLS")[1], found


# Which CAs a cloud needs

@pytest.mark.parametrize("endpoint, needed", [
    ("global.azure-devices-provisioning.net", "DigiCert Global Root G2"),
    ("global.azure-devices-provisioning.cn", "DigiCert Global Root CA"),
    ("global.azure-devices-provisioning.us", "DigiCert Global Root CA"),
    ("Contoso.azure-devices-provisioning.net", "DigiCert Global Root G2"),
    ("contoso.azure-devices-provisioning.cn", "DigiCert Global Root CA")])
def test_the_ca_that_the_cloud_needs_is_named_where_it_is_missing(gateway, endpoint, needed):
    start_unassigned(gateway, provisioning={"Endpoint": endpoint})
    code, found = check(gateway, "gateway", "--offline")
    missing = [text for result, text in rows(found, "trust") if result == "failed"]
    assert code == 1 and len(missing) == 1 and missing[0].startswith(f"{needed} is not trusted, but Azure needs it: add it to CaFile=")
    is_gone = needed == "DigiCert Global Root CA"
    assert is_gone == ("without it since 2026: get https://cacerts.digicert.com/DigiCertGlobalRootCA.crt.pem" in missing[0])
    assert is_gone != ("remove CaFile=" in missing[0])


def test_a_root_that_the_system_has_lost_is_named_with_its_source(gateway):
    system = gateway.directory / "certs"
    system.mkdir()
    (system / "ca.pem").write_bytes(gateway.emulator.ca_file.read_bytes())
    subprocess.run(["openssl", "rehash", system], check=True)
    gateway.start(SSL_CERT_DIR=str(system), SSL_CERT_FILE="/nonexistent")
    gateway.identity(provisioning={"Endpoint": "global.azure-devices-provisioning.cn", "CaFile": "system"})
    _, found = check(gateway, "gateway", "--offline")
    (text,) = [text for result, text in rows(found, "trust") if result == "failed"]
    assert "DigiCert Global Root CA is not trusted" in text and "/usr/local/share/ca-certificates" in text
    assert "install ca-certificates" not in text


# Beside a registration

def test_beside_a_registration_there_is_no_login(lone_gateway, make_peer):
    peer = make_peer("gateway", {"register": nothing})
    lone_gateway.start()
    peer.wait_for("register")
    code, found = check(lone_gateway, "gateway")
    assert one(found, "log-in") == ("skipped", "a registration is under way, and shows more than a log-in: dpsctl status")
    assert lone_gateway.properties("gateway")["State"] == "provisioning" and code == 0
    assert lone_gateway.properties("gateway")["Attempts"] == 0  # it was not displaced


# The hub

@needs_root
def test_the_hub_is_reached_and_logged_in_only_on_request(make_gateway, emulator_at_8883):
    network, emulator = emulator_at_8883
    gateway = make_gateway()
    gateway.emulator = emulator
    gateway.wrapper = network.wrapper
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    code, found = check(gateway, "gateway")
    assert code == 0 and rows(found, "hub")[-1][0] == "ok" and not rows(found, "hub log-in")
    assert not emulator.requests("hub-connect")
    code, found = check(gateway, "gateway", "--hub-login")
    result, text = one(found, "hub log-in")
    assert code == 0 and result == "ok" and "has been displaced" in text
    assert len(emulator.requests("hub-connect")) == 1


@pytest.fixture
def emulator_at_8883(tmp_path):
    """An emulator in a network of its own, where the hub's port is free."""
    network = Network()
    network.set_up()
    directory = tmp_path / "at-8883"
    directory.mkdir()
    emulator = Emulator(directory)
    emulator.wrapper, emulator.port = network.wrapper, 8883
    emulator.enrollments["hubs"] = ["localhost"]
    emulator.start()
    yield network, emulator
    emulator.stop()
    network.close()


def test_hub_login_without_the_daemon_says_what_it_needs(gateway):
    gateway.identity()
    result = gateway.dpsctl("check", "gateway", "--hub-login")
    assert result.code == 6 and "--hub-login needs dpsd" in result.err


# What dpsctl does with answers

def test_the_options_reach_the_daemon(dpsctl, serve):
    serve(identity("gw"))
    _, out, _ = dpsctl("check", "gw", "--offline", "--hub-login", "--json=short")
    assert [row["Text"] for row in json.loads(out)["checks"]] == ["offline, hub-login"] * 2


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"checks":1}', '{"checks":[{}]}', '{"checks":[{"Name":1}]}', "{" * 3000])
def test_a_malformed_answer_is_an_error(dpsctl, serve, answer):
    fake = serve(identity("gw"))
    fake.call_Check = lambda *_: ("s", (answer,))
    code, out, err = dpsctl("check", "gw")
    assert code == 1 and not out and "different versions" in err


@pytest.mark.parametrize("error, code, words", [
    ("io.dpsd.dps1.Error.RateLimited", 8, "4 checks"), ("org.freedesktop.DBus.Error.AccessDenied", 5, "sudo dpsctl"),
    ("io.dpsd.dps1.Error.NotSupported", 1, "4 checks"), ("org.freedesktop.DBus.Error.UnknownMethod", 1, "different versions")])
def test_a_refusal_has_its_exit_code(dpsctl, serve, error, code, words):
    serve(identity("gw")).refuse["Check"] = Refusal(error, "4 checks run already")
    result, _, err = dpsctl("check", "gw")
    assert result == code and words in err


def test_a_word_of_a_newer_daemon_is_no_failure(dpsctl, serve):
    fake = serve(identity("gw"))
    row = {"Name": "gw", "Check": "key", "Result": "unheard-of", "Text": "new"}
    fake.call_Check = lambda *_: ("s", (json.dumps({"version": 2, "checks": [row]}),))
    code, out, _ = dpsctl("check", "gw")
    assert code == 0 and "! warning" in out


# Proxies

needs_proxies = pytest.mark.skipif(not available(), reason="tinyproxy, squid or microsocks is not installed")


@needs_proxies
@pytest.mark.parametrize("arguments", [(Microsocks,), (Tinyproxy,), (Microsocks, USER, PASSWORD)],
                         ids=["socks5h", "http", "socks5h-login"])
def test_the_way_through_a_proxy_is_looked_at(gateway, proxy, arguments):
    started = proxy(*arguments)
    lines = {"Endpoint": "localhost", "Proxy": started.url}
    if len(arguments) > 1:
        lines |= {"Proxy": started.url.replace("//", f"//{USER}@"), "ProxyPassword": gateway.write_key("proxy", PASSWORD)}
    start_unassigned(gateway, provisioning=lines)
    code, found = check(gateway, "gateway")
    assert code == 0 and one(found, "proxy") == ("ok", f"{started.url} is asked for localhost (Proxy=)"), found
    assert one(found, "TLS")[0] == one(found, "log-in")[0] == "ok"
    assert PASSWORD not in str(found) and PASSWORD not in gateway.whole_log()


def test_a_proxy_that_is_down_is_told_apart_from_the_endpoint(gateway):
    port = free_port()
    start_unassigned(gateway, provisioning={"Endpoint": "localhost", "Proxy": f"http://127.0.0.1:{port}"})
    code, found = check(gateway, "gateway")
    assert code == 1 and one(found, "connection") == (
        "failed", f"127.0.0.1, port {port}: refused; is the port open in the firewall?")


def test_a_proxy_that_wants_a_login_is_named(gateway):
    proxy = HostileProxy(says(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Digest realm=\"x\"\r\nContent-Length: 0\r\n\r\n"))
    try:
        start_unassigned(gateway, provisioning={"Endpoint": "localhost", "Proxy": proxy.url})
        code, found = check(gateway, "gateway")
        result, text = rows(found, "connection")[-1]
        assert code == 1 and result == "failed" and "407" in text and "Digest" in text
    finally:
        proxy.close()


def test_a_proxy_password_that_cannot_be_read_is_named(gateway):
    start_unassigned(gateway, provisioning={"Endpoint": "localhost", "Proxy": "http://me@127.0.0.1:1",
                                            "ProxyPassword": gateway.directory / "nowhere"})
    code, found = check(gateway, "gateway")
    assert code == 1 and one(found, "proxy")[0] == "failed" and "ProxyPassword=" in one(found, "proxy")[1]
    assert not rows(found, "connection") and not rows(found, "log-in")


def test_a_login_makes_room_for_a_registration(lone_gateway, make_peer):
    lone_gateway.start()
    peer = make_peer("gateway", {"subscribe": silence})
    with lone_gateway.begin("dpsctl", "check", "gateway", "--json=short") as process:
        peer.wait_for("subscribe")
        lone_gateway.reload()
        out, _ = process.communicate(timeout=DEADLINE)
    assert one(json.loads(out)["checks"], "log-in") == (
        "skipped", "a registration is under way, and shows more than a log-in: dpsctl status")
    peer.mend()
    lone_gateway.wait_for(State="assigned")


def test_the_daemon_stops_in_the_middle_of_a_check(lone_gateway, make_peer):
    lone_gateway.start()
    peer = make_peer("gateway", {"subscribe": silence})
    with lone_gateway.begin("dpsctl", "check", "gateway") as process:
        peer.wait_for("subscribe")
        lone_gateway.stop()
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 6 and "dpsd stopped before it answered" in err


def test_a_module_that_is_missing_is_named(gateway):
    gateway.start(DPS_MODULE_DIRECTORY=modules(gateway.directory / "modules", BUILD, ["transport/transport.so"]))
    result = gateway.dpsctl("check")
    assert result.code == 1 and "check" in result.err and "Traceback" not in result.err


def test_two_identities_that_are_one_device_are_named(gateway):
    gateway.start()
    gateway.identity("a-gateway", "gw-1")
    gateway.identity("b-gateway", "gw-1")
    gateway.reload()
    for daemon in (True, False):
        if not daemon:
            gateway.stop()
        _, found = check(gateway, "b-gateway", "--offline")
        assert any(result == "failed" and "a-gateway.conf and b-gateway.conf both have registration id" in text
                   for result, text in rows(found, "identity")), found


def test_https_is_only_a_warning_where_it_is_not_needed(gateway):
    port = free_port()
    start_unassigned(gateway, provisioning={"HttpsPort": port, "Transport": "mqtt"})
    code, found = check(gateway, "gateway")
    assert code == 0 and one(found, "HTTPS") == (
        "warning", f"127.0.0.1, port {port}: refused; is the port open in the firewall?")


needs_https = pytest.mark.skipif(not (BUILD / "src/transport/https.so").exists(), reason="built without libcurl")


def start_with_https(gateway, port, **sections):
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)
    return start_unassigned(gateway, provisioning={"Transport": "https", "HttpsPort": port}, **sections)


@needs_https
def test_over_https_a_device_is_let_in_without_a_registration(gateway, emulator):
    emulator.enroll("gateway")
    start_with_https(gateway, emulator.https_port)
    code, found = check(gateway, "gateway")
    result, text = one(found, "log-in")
    assert code == 0 and result == "ok" and "has no registration of it yet" in text and "nothing was registered" in text, found
    assert [entry["event"] for entry in emulator.requests(registration_id="gateway")] == ["lookup"]


@needs_https
def test_over_https_an_earlier_registration_is_reported(gateway, emulator):
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)
    gateway.identity(provisioning={"Transport": "https", "HttpsPort": emulator.https_port})
    gateway.start()
    gateway.wait_for(State="assigned")
    _, found = check(gateway, "gateway")
    assert "has a registration of it" in one(found, "log-in")[1], found
    assert len(emulator.requests("register")) == 1


@needs_https
def test_over_https_a_wrong_key_is_refused_and_nothing_is_registered(gateway, emulator):
    emulator.enroll("gateway")
    start_with_https(gateway, emulator.https_port, key="d3Jvbmcta2V5LW9mLXNpeHRlZW4tYnl0ZXM=")
    code, found = check(gateway, "gateway")
    result, text = one(found, "log-in")
    assert code == 1 and failures(found) == {"log-in"} and result == "failed" and "(auth)" in text, found
    assert not emulator.requests("register")


@needs_https
def test_over_https_a_closed_port_lets_nobody_in(gateway, emulator):
    start_with_https(gateway, free_port())
    code, found = check(gateway, "gateway")
    assert code == 1 and one(found, "log-in") == ("skipped", "the endpoint cannot be reached by HTTPS"), found


@needs_https
def test_with_auto_the_log_in_takes_the_way_that_is_open(gateway, emulator):
    emulator.enroll("gateway")
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)
    start_unassigned(gateway, provisioning={"MqttPort": free_port(), "HttpsPort": emulator.https_port})
    _, found = check(gateway, "gateway")
    result, text = one(found, "log-in")
    assert result == "ok" and "has no registration of it yet" in text, found


def test_an_open_https_port_is_a_way_where_mqtt_is_blocked(lone_gateway, make_peer):
    lone_gateway.start()
    peer = make_peer("gateway")
    lone_gateway.identity(key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==",
                          provisioning={"MqttPort": free_port(), "HttpsPort": peer.port, "Transport": "mqtt"})
    code, found = check(lone_gateway, "gateway")
    assert code == 1 and any("this device would get through" in text for _, text in rows(found, "HTTPS")), found
