# SPDX-License-Identifier: MIT
"""Through proxies, with real ones: what works, what is said where something does not, and that secrets stay inside."""
import os
import pathlib
import subprocess

import pytest

from certificates import Issuer, Pki, key_pem, pem
from gateway import OWN_MODULES
from process import BUILD, DEADLINE, free_port
from proxies import (PASSWORD, USER, HostileProxy, Microsocks, Squid, Tinyproxy, available, relays, says,
                     says_for_ever)
from tpm import modules

pytestmark = pytest.mark.skipif(not available(), reason="tinyproxy, squid or microsocks is not installed")
HTTPS = pytest.param("https", marks=pytest.mark.skipif(not (BUILD / "src/transport/https.so").exists(), reason="built without libcurl"))
over_both = pytest.mark.parametrize("way", ["mqtt", HTTPS], indirect=True)
over_https = pytest.mark.parametrize("way", [HTTPS], indirect=True)


@pytest.fixture(autouse=True)
def way(request, gateway):
    """The transport of the test; MQTT if it does not say."""
    gateway.way = getattr(request, "param", "mqtt")
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)


def has_ntlm():
    """Whether the libcurl of this machine has it."""
    return "NTLM" in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()


def port(gateway):
    return gateway.emulator.https_port if gateway.way == "https" else gateway.emulator.port


def at(port):
    return {"MqttPort": port, "HttpsPort": port}


def pair(pki, kind="good"):
    key, certificate = pki.make(kind)
    return key_pem(key) + pem(certificate)


def with_user(url, user=USER):
    return url.replace("//", f"//{user}@")


def use(gateway, url, password=None, **provisioning):
    """Configures an identity that goes through the proxy to the name localhost, so that the name can be seen at the proxy."""
    lines = {"Endpoint": "localhost", "Transport": gateway.way, "HttpsPort": gateway.emulator.https_port, "Proxy": url}
    if password:
        lines |= {"Proxy": with_user(url), "ProxyPassword": gateway.write_key("proxy", password)}
    gateway.identity(provisioning=lines | provisioning)


def failure(gateway, **wanted):
    gateway.start()
    return gateway.wait_for(check=lambda properties: properties["LastErrorId"], **wanted)


def assert_is_used(proxy, gateway):
    """A second tunnel over HTTPS is one for the poll: libcurl need not keep the connection of the register."""
    assert proxy.n_tunnels == 1 or (proxy.n_tunnels == 2 and gateway.properties("gateway")["Transport"] == "https")


def assert_proxy_fails(gateway, *telling, step="connect", id="proxy"):
    properties = failure(gateway)
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == (id, step), properties["LastError"]
    for text in telling:
        assert any(word in properties["LastError"] for word in text.split("|")), properties["LastError"]
    for secret in (USER, PASSWORD):
        assert secret not in properties["LastError"]


# ---- what works ----


@over_both
def test_socks5_resolves_the_name_and_tls_checks_it(gateway, emulator, proxy):
    socks = proxy(Microsocks)
    use(gateway, socks.url)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert f"connected to localhost:{port(gateway)}" in socks.log
    assert_is_used(socks, gateway)


@over_both
def test_socks5_with_a_log_in(gateway, proxy):
    socks = proxy(Microsocks, USER, PASSWORD)
    use(gateway, socks.url, PASSWORD)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert_is_used(socks, gateway)


@over_both
def test_through_connect(gateway, emulator, proxy):
    http = proxy(Tinyproxy)
    use(gateway, http.url)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert f"CONNECT localhost:{port(gateway)} HTTP" in http.log


@over_both
@pytest.mark.parametrize("kind, arguments", [(Tinyproxy, [f"BasicAuth {USER} {PASSWORD}"]), (Squid, ["basic"])])
def test_through_connect_with_basic(gateway, proxy, kind, arguments):
    http = proxy(kind, *arguments)
    use(gateway, http.url, PASSWORD)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert_is_used(http, gateway)


@over_https
@pytest.mark.parametrize("scheme", ["digest", pytest.param("ntlm", marks=pytest.mark.skipif(not has_ntlm(), reason="libcurl without NTLM"))])
def test_https_through_connect_with_digest_and_ntlm(gateway, proxy, scheme):
    http = proxy(Squid, scheme)
    use(gateway, http.url, PASSWORD)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert_is_used(http, gateway)


@over_https
def test_auto_takes_https_where_the_proxy_has_only_digest(gateway, proxy):
    http = proxy(Squid, "digest")
    use(gateway, http.url, PASSWORD, Transport="auto")
    gateway.start()
    assert gateway.wait_for(State="assigned", timeout=3 * DEADLINE)["Transport"] == "https"
    assert_is_used(http, gateway)


@over_https
@pytest.mark.parametrize("transport", ["https", "auto"])
def test_a_proxy_behind_tls_is_trusted_by_ca_file(gateway, emulator, proxy, tmp_path, transport):
    """With auto there is no attempt over MQTT, which cannot go through it."""
    pki = Pki(tmp_path / "pki")
    http = proxy(Squid, "basic", pair=pair(pki))
    use(gateway, http.url, PASSWORD, Transport=transport, CaFile=[emulator.ca_file, pki.ca_file])
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert (properties["Transport"], properties["Attempts"]) == ("https", 0)
    assert_is_used(http, gateway)


@over_both
def test_a_corrected_password_is_used(gateway, proxy):
    socks = proxy(Microsocks, USER, PASSWORD)
    use(gateway, socks.url, "wrong")
    assert_proxy_fails(gateway, "refused the user or the password")
    gateway.write_key("proxy", PASSWORD)
    gateway.wait_for(State="assigned")


@over_both
def test_a_password_that_is_missing_is_waited_for(gateway, proxy):
    use(gateway, proxy(Microsocks, USER, PASSWORD).url, PASSWORD)
    (gateway.credentials / "proxy").unlink()
    properties = failure(gateway)
    assert properties["LastErrorId"] == "key" and properties["Waiting"] == "key"
    assert "ProxyPassword=: " in properties["LastError"]
    gateway.write_key("proxy", PASSWORD)
    gateway.wait_for(State="assigned")


# ---- which proxy ----


@over_both
@pytest.mark.parametrize("words", ["localhost", ".other, LOCALHOST", "*"])
def test_no_proxy_is_honoured(gateway, proxy, words):
    socks = proxy(Microsocks)
    use(gateway, socks.url, NoProxy=words)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert socks.n_tunnels == 0


@over_both
@pytest.mark.parametrize("words", ["127.0.0.1", "127.0.0.0/8"])
def test_no_proxy_is_honoured_for_addresses(gateway, proxy, words):
    socks = proxy(Microsocks)
    use(gateway, socks.url, NoProxy=words, Endpoint="127.0.0.1")
    gateway.start()
    gateway.wait_for(State="assigned")
    assert socks.n_tunnels == 0


@over_both
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY"])
def test_the_environment_names_the_proxy_where_the_configuration_is_silent(gateway, proxy, variable):
    socks = proxy(Microsocks, USER, PASSWORD)
    gateway.surroundings |= {variable: with_user(socks.url, f"{USER}:{PASSWORD}")}
    use(gateway, None)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert_is_used(socks, gateway)


@over_both
def test_no_proxy_of_the_environment_is_honoured(gateway, proxy):
    socks = proxy(Microsocks)
    gateway.surroundings |= {"https_proxy": socks.url, "no_proxy": "localhost"}
    use(gateway, None)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert socks.n_tunnels == 0


@over_both
def test_one_identity_can_do_without_the_proxy_of_the_environment(gateway, proxy):
    socks = proxy(Microsocks)
    gateway.surroundings |= {"https_proxy": socks.url}
    use(gateway, "none")
    gateway.start()
    gateway.wait_for(State="assigned")
    assert socks.n_tunnels == 0


def test_a_proxy_of_the_environment_that_makes_no_sense_is_not_bypassed(gateway, emulator):
    gateway.surroundings |= {"https_proxy": f"gopher://{USER}:{PASSWORD}@proxy"}
    use(gateway, None)
    assert_proxy_fails(gateway, "https_proxy in the environment must be http://", id="config", step="config")
    assert not emulator.requests()


# ---- Address= ----


@over_both
def test_an_address_is_dialled_in_place_of_the_name(gateway, emulator):
    use(gateway, None, Address=["nosuch.invalid", "127.0.0.1"])
    gateway.start()
    assert gateway.wait_for(State="assigned")["Endpoint"] == "localhost"


@over_both
def test_the_certificate_must_be_the_endpoints(gateway):
    use(gateway, None, Endpoint="dps.invalid", Address="127.0.0.1")
    properties = failure(gateway)
    assert properties["LastErrorId"] == "tls-name"
    assert "dps.invalid" in properties["LastError"]


@over_both
def test_the_next_address_is_tried(gateway):
    use(gateway, None, Address="127.0.0.9 127.0.0.1")
    gateway.start()
    gateway.wait_for(State="assigned")


@over_both
def test_a_proxy_is_asked_for_the_address(gateway, emulator, proxy):
    socks = proxy(Microsocks)
    use(gateway, socks.url, Endpoint="localhost", Address="127.0.0.1")
    gateway.start()
    gateway.wait_for(State="assigned")
    assert f"connected to 127.0.0.1:{port(gateway)}" in socks.log


# ---- what is said ----


@over_both
def test_a_proxy_that_is_down(gateway):
    use(gateway, f"socks5h://127.0.0.1:{free_port()}")
    assert_proxy_fails(gateway, "proxy socks5h://127.0.0.1:", "refused the connection")


@over_both
def test_a_proxy_whose_name_cannot_be_resolved(gateway):
    use(gateway, "http://proxy.invalid:3128")
    assert_proxy_fails(gateway, "proxy http://proxy.invalid:3128 cannot be resolved", step="resolve")


@over_both
@pytest.mark.parametrize("arguments, password, telling", [
    ([USER, PASSWORD], None, "demands a log-in: set a user in Proxy="),
    ([USER, PASSWORD], "wrong", "refused the user or the password"),
])
def test_socks5_refuses_a_log_in(gateway, proxy, arguments, password, telling):
    use(gateway, proxy(Microsocks, *arguments).url, password)
    assert_proxy_fails(gateway, telling)


@over_both
def test_a_target_that_socks5_cannot_reach_is_not_the_proxys_fault(gateway, proxy):
    use(gateway, proxy(Microsocks).url, **at(free_port()))
    assert_proxy_fails(gateway, "the connection was refused there", id="refused")


@pytest.mark.parametrize("scheme, password, telling", [
    ("basic", None, "demands a log-in (407, offers Basic)"),
    ("basic", "wrong", "refused the user or the password (407, offers Basic)"),
    ("digest", PASSWORD, "offers no log-in that MQTT can use (407, offers Digest, not Basic): set Transport=https"),
    ("ntlm", PASSWORD, "offers no log-in that MQTT can use (407, offers NTLM, not Basic): set Transport=https"),
])
def test_407_names_the_schemes(gateway, proxy, scheme, password, telling):
    use(gateway, proxy(Squid, scheme).url, password)
    assert_proxy_fails(gateway, telling)


@over_https
@pytest.mark.parametrize("scheme, password, telling", [
    ("basic", None, "demands a log-in (407, offers Basic)"),
    ("digest", None, "demands a log-in (407, offers Digest)"),
    ("basic", "wrong", "refused the user or the password (407, offers Basic)"),
    ("digest", "wrong", "refused the user or the password (407, offers Digest)"),
])
def test_407_names_the_schemes_over_https(gateway, proxy, scheme, password, telling):
    use(gateway, proxy(Squid, scheme).url, password)
    assert_proxy_fails(gateway, telling)


@over_https
@pytest.mark.skipif(not has_ntlm(), reason="libcurl without NTLM")
def test_a_password_that_ntlm_refuses_is_tried_once_in_an_attempt(gateway, proxy):
    """Domains lock accounts after a few wrong passwords."""
    http = proxy(Squid, "ntlm-refuses")
    use(gateway, http.url, "wrong")
    gateway.start()
    properties = gateway.wait_for(check=lambda now: now["Attempts"] >= 2)
    assert properties["LastErrorId"] == "proxy"
    assert "refused the user or the password (407, offers NTLM)" in properties["LastError"]
    n_refused = http.n_refused
    assert 2 <= n_refused <= gateway.properties("gateway")["Attempts"] + 1  # another attempt may have begun


@pytest.mark.parametrize("way, without_ntlm, telling", [
    ("mqtt", False, "that MQTT can use (407, offers Negotiate, not Basic): let it offer Basic, or let this device through"),
    pytest.param("https", False, "that dpsd can use (407, offers Negotiate; dpsd has Basic, Digest and NTLM"
                 f"{'' if has_ntlm() else ', but its libcurl is built without NTLM'}): let it offer one of these", marks=HTTPS.marks),
    pytest.param("https", True, f"(407, offers {'NTLM' if has_ntlm() else 'none that is known'}; dpsd has Basic, Digest and NTLM, but its libcurl is built without NTLM): let it",
                 marks=HTTPS.marks),
], indirect=["way"])
def test_a_scheme_that_cannot_be_used_is_named_with_what_to_do(gateway, proxy, way, without_ntlm, telling):
    """Negotiate asks a Kerberos server, and libcurl would wait for it: nobody has it. Some libcurls have no NTLM."""
    if without_ntlm:
        gateway.surroundings["LD_PRELOAD"] = BUILD / "tests/integration/test-curl.so"
    scheme = "NTLM" if without_ntlm else "Negotiate"
    use(gateway, proxy(HostileProxy, says(f"HTTP/1.1 407 No\r\nProxy-Authenticate: {scheme}\r\nContent-Length: 0\r\n\r\n".encode())).url, PASSWORD)
    assert_proxy_fails(gateway, telling)


@over_both
def test_tinyproxy_refuses_a_password_in_its_own_way(gateway, proxy):
    use(gateway, proxy(Tinyproxy, f"BasicAuth {USER} {PASSWORD}").url, "wrong")
    assert_proxy_fails(gateway, "refused the user or the password (401, offers |refused the user or the password (407, offers Basic)")


@over_both
def test_a_port_that_the_proxy_does_not_allow(gateway, emulator, proxy):
    use(gateway, proxy(Tinyproxy, "ConnectPort 443").url)
    assert_proxy_fails(gateway, f"refused to connect to localhost:{port(gateway)}: 403")


@over_both
def test_a_target_that_the_proxy_cannot_reach(gateway, proxy):
    closed = free_port()
    use(gateway, proxy(Tinyproxy).url, **at(closed))
    assert_proxy_fails(gateway, f"refused to connect to localhost:{closed}: 50")


@pytest.mark.parametrize("scheme, answer, telling", [
    ("http", says(b"\x15\x03\x01\x00\x02\x02\x28"), "not HTTP"),
    ("http", says(b"220 mail.example ESMTP\r\n"), "not HTTP"),
    ("http", says_for_ever(b"HTTP/1.1 200 OK\r\n"), "does not end"),
    ("http", says(b"\5\xff"), "but SOCKS: write socks5h://"),
    ("http", says(b"HTTP/1.1 200 OK\r\n\r\nmore"), "before TLS"),
    ("http", lambda connection: None, "closed the connection instead of connecting us"),
    ("socks5h", says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "but HTTP: write http://"),
    ("socks5h", says_for_ever(b"\0" * 4096), "not SOCKS5"),
    ("socks5h", lambda connection: connection.sendall(b"\5"), "closed the connection instead of connecting us"),
])
def test_a_proxy_that_answers_nonsense(gateway, proxy, scheme, answer, telling):
    use(gateway, proxy(HostileProxy, answer, scheme).url)
    assert_proxy_fails(gateway, telling)


@over_both
def test_a_proxy_that_cuts_the_tunnel(gateway, proxy):
    use(gateway, proxy(HostileProxy, lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")).url)
    assert_proxy_fails(gateway, " through proxy http://127.0.0.1:", "during the TLS handshake", id="lost", step="tls")


@over_both
def test_an_intercepting_proxy_is_named(gateway, emulator, proxy, tmp_path):
    key, certificate = Pki(tmp_path / "pki").leaf(Issuer("Corporate Inspection"))
    (tmp_path / "inspector.pem").write_bytes(key_pem(key) + pem(certificate))
    use(gateway, proxy(HostileProxy, relays(port(gateway), certfile=tmp_path / "inspector.pem")).url)
    assert_proxy_fails(gateway, "localhost:", "through proxy http://", "Corporate Inspection", id="tls-untrusted", step="tls")


@over_https
def test_a_proxy_behind_tls_that_is_not_trusted(gateway, proxy, tmp_path):
    use(gateway, proxy(Squid, "basic", pair=pair(Pki(tmp_path / "pki"))).url, PASSWORD)
    assert_proxy_fails(gateway, "proxy https://127.0.0.1:", "cannot be trusted", "CaFile=")


@over_https
def test_a_proxy_behind_tls_that_shows_another_name(gateway, emulator, proxy, tmp_path):
    pki = Pki(tmp_path / "pki")
    use(gateway, proxy(Squid, "basic", pair=pair(pki, "wrong-host")).url, PASSWORD, CaFile=[emulator.ca_file, pki.ca_file])
    assert_proxy_fails(gateway, "proxy https://127.0.0.1:", "another name")


@over_https
@pytest.mark.parametrize("kind, arguments, telling", [
    (Squid, ["basic"], "does not speak TLS; if it is a plain HTTP proxy, write http://"),
    (Tinyproxy, [], "does not answer, or not by TLS: does Proxy= have to begin with http://?"),  # waits for the end of the line
])
def test_a_proxy_without_tls(gateway, proxy, kind, arguments, telling):
    use(gateway, proxy(kind, *arguments).url.replace("http:", "https:"))
    assert_proxy_fails(gateway, telling)


@over_https
@pytest.mark.parametrize("scheme, answer, telling", [
    ("http", says(b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n"), ""),
    ("http", says(b"220 mail.example ESMTP\r\n"), ""),
    ("http", says_for_ever(b"HTTP/1.1 200 OK\r\n"), "does not end|sends more data"),
    ("http", says(b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n"), ": 302"),
    ("http", lambda connection: None, "closed the connection instead of connecting us"),
    ("socks5h", says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not SOCKS5"),
    ("socks5h", says_for_ever(b"\0" * 4096), "not SOCKS5"),
    ("socks5h", lambda connection: connection.sendall(b"\5"), "closed the connection instead of connecting us"),
])
def test_a_proxy_that_answers_nonsense_over_https(gateway, proxy, scheme, answer, telling):
    use(gateway, proxy(HostileProxy, answer, scheme).url)
    assert_proxy_fails(gateway, f"proxy {scheme}://127.0.0.1:", telling)


def test_without_the_module_auto_cannot_go_through_a_proxy_behind_tls(gateway, emulator):
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = OWN_MODULES
    use(gateway, f"https://127.0.0.1:{free_port()}", Transport="auto")
    properties = failure(gateway)
    assert "reached by TLS" in properties["LastError"], properties["LastError"]
    assert not emulator.requests()


def test_mqtt_cannot_go_through_a_proxy_behind_tls(gateway, proxy):
    use(gateway, "https://127.0.0.1:1")
    assert_proxy_fails(gateway, "gateway.conf:", "Transport=mqtt cannot go through", id="config", step="config")


# ---- for programs ----


def test_programs_are_told_the_proxy_on_the_way_to_the_hub(gateway, proxy):
    socks = proxy(Microsocks, USER, PASSWORD)
    use(gateway, socks.url, PASSWORD)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert gateway.connection()["proxy"] == with_user(socks.url)


def test_programs_are_told_no_proxy_where_none_is_on_the_way_to_the_hub(gateway, proxy):
    use(gateway, proxy(Microsocks).url, NoProxy=".example")
    gateway.start()
    gateway.wait_for(State="assigned")
    assert "proxy" not in gateway.connection()


# ---- secrets ----


def test_a_password_in_a_url_is_refused_and_not_shown(gateway):
    use(gateway, f"http://{USER}:{PASSWORD}@127.0.0.1:3128")
    assert_proxy_fails(gateway, "gateway.conf:", "Proxy= must not hold a password", id="config", step="config")
    assert PASSWORD not in gateway.whole_log()


def test_a_password_file_that_others_can_read_is_refused(gateway, tmp_path):
    use(gateway, "http://127.0.0.1:3128", PASSWORD)
    (gateway.credentials / "proxy").chmod(0o644)
    assert_proxy_fails(gateway, "ProxyPassword=: ", "everybody can read it", id="config", step="config")


@over_both
def test_the_password_is_nowhere_but_in_its_file(gateway, proxy):
    the_password_stays_inside(gateway, proxy(Squid, "basic"))


@over_https
@pytest.mark.parametrize("kind, arguments", [(Squid, ["digest"]), (Microsocks, [USER, PASSWORD])])
def test_the_password_is_nowhere_but_in_its_file_over_https(gateway, proxy, kind, arguments):
    the_password_stays_inside(gateway, proxy(kind, *arguments))


def the_password_stays_inside(gateway, proxy):
    use(gateway, proxy.url, PASSWORD)
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    gateway.dpsctl("log-level", "debug")
    gateway.call("gateway", "Reprovision")
    gateway.wait_for(check=lambda now: now["LastSuccessAt"] > properties["LastSuccessAt"])

    process = pathlib.Path(f"/proc/{gateway.pid}")
    seen = [str(gateway.properties("gateway")), gateway.dpsctl("cat-config").out, gateway.dpsctl("status", "gateway").out,
            gateway.dpsctl("connection", "gateway").out, (process / "cmdline").read_text(), (process / "environ").read_text() if os.geteuid() == 0 else "",
            (gateway.state / "gateway.json").read_text(), *gateway.files().values(), gateway.whole_log()]
    assert not any(PASSWORD in text for text in seen)
