# SPDX-License-Identifier: MIT
"""dps-recipes(7): every recipe works as it is written, commands and all; only paths, ports and names of hosts are the test's.
Those that need systemd are in tests/boot/recipe-*.sh."""
import re
import subprocess

import pytest

from certificates import Pki
from https_peer import HttpsPeer, message
from process import BUILD, DEADLINE, REPOSITORY, clean_environment
from proxies import PASSWORD, Microsocks, Tinyproxy, mirrors
from tpm import EK, ResourceManager, Tpm, enroll, modules, resource_manager

PAGE = (REPOSITORY / "man/dps-recipes.7").read_text(encoding="utf-8")
RECIPES = REPOSITORY / "data/examples/recipes"
FILES = sorted(path.name for path in RECIPES.iterdir())


def text_of(block):
    return re.sub(r"^\\&", "", block, flags=re.M).replace("\\(aq", "'").replace("\\e", "\\")


def sections():
    """The literal blocks of each section of the page."""
    for section in re.split(r"^\.Sh ", PAGE, flags=re.M)[1:]:
        yield [text_of(block) for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed\n", section, flags=re.M | re.S)]


def commands_for(conf, nth=0):
    """The commands of the nth section that has this conf, and of the introduction, which makes the directory for keys."""
    of_sections = list(sections())
    mine = [blocks for blocks in of_sections if conf in blocks][nth]
    first = [block for block in of_sections[1] if block.startswith("# install -d")]
    return [re.sub(r"^# ", "", block, flags=re.M) for block in first + mine if block.startswith("# ") and "systemctl" not in block]


def recipe(name):
    """The file without the line about its licence."""
    return re.sub(r"^# SPDX.*\n", "", (RECIPES / name).read_text(encoding="utf-8"), count=1, flags=re.M)


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_installed_file(name):
    assert any(recipe(name) in blocks for blocks in sections())


def test_every_file_of_the_page_is_installed():
    shown = {block for blocks in sections() for block in blocks if block.startswith(("[", "#!"))}
    assert shown == {recipe(name) for name in FILES}


def test_commands_name_files_that_are_installed():
    names = re.findall(r"examples/recipes/(\S+)", PAGE)
    assert names and all(list(RECIPES.glob(name)) for name in names)


class Kitchen:
    """Runs what the page says, with /etc/dps, the token and the TPM in the directory of the test."""

    def __init__(self, gateway, directory):
        self.gateway = gateway
        self.directory = directory
        self.keys = gateway.configuration / "keys"
        tokens = directory / "tokens"
        tokens.mkdir()
        (directory / "softhsm2.conf").write_text(f"directories.tokendir = {tokens}\n")
        self.variables = {"SOFTHSM2_CONF": directory / "softhsm2.conf", "DPS_MODULE_DIRECTORY": modules(directory / "modules", BUILD)}
        self.more = []  # lines of a drop-in
        self.tpm = None
        self.proxy = None
        self.mirrors = mirrors(gateway.emulator.port, gateway.emulator.https_port)

    def place(self, text):
        text = text.replace("/etc/dps/", f"{self.gateway.configuration}/")
        return text.replace("-o root -g dpsd ", "").replace("chgrp dpsd ", "ls ")

    def start_tpm(self):
        self.tpm = Tpm(self.directory).start()
        self.variables |= {"TPM2TOOLS_TCTI": self.tpm.tcti, "TPM2OPENSSL_TCTI": self.tpm.tcti}
        self.more += ["[Attestation]", f"Tcti={self.tpm.tcti}"]

    def prepare(self, conf, nth=0):
        for commands in commands_for(conf, nth):
            done = subprocess.run(["sh", "-euc", self.place(commands)], cwd=self.directory, capture_output=True, text=True,
                                  timeout=4 * DEADLINE, check=False, env=clean_environment(self.directory, HOME=self.directory, **self.variables))
            assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"

    def configure(self, conf):
        emulator = self.gateway.emulator
        if conf:
            self.gateway.write_conf("gateway", self.place(conf))
        drop_in = self.gateway.configuration / "gateway.conf.d" / "50-test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("\n".join(["[Provisioning]", "Endpoint=localhost", f"MqttPort={emulator.port}", f"HttpsPort={emulator.https_port}",
                                      f"CaFile={emulator.ca_file}", *self.more]) + "\n")

    def serve(self, conf):
        self.configure(conf)
        done = self.gateway.execute("dpsctl", "verify-config", *([self.gateway.configuration / "gateway.conf"] if conf else []), **self.variables)
        assert done.code == 0, done
        self.gateway.start(**self.variables)
        self.gateway.wait_for(State="assigned", timeout=3 * DEADLINE)
        assert self.gateway.dpsctl("wait", "gateway").code == 0
        return self.gateway.properties("gateway")

    def close(self):
        if self.tpm:
            self.tpm.close()
        if self.proxy:
            self.proxy.close()
        for mirror in self.mirrors:
            mirror.close()


@pytest.fixture
def kitchen(gateway, tmp_path):
    kitchen = Kitchen(gateway, tmp_path)
    yield kitchen
    kitchen.close()


def write_secret(kitchen, name, text):
    kitchen.keys.mkdir(mode=0o750, exist_ok=True)
    path = kitchen.keys / name
    path.write_text(text + "\n")
    path.chmod(0o640)


def enroll_certificate(gateway, kitchen):
    gateway.emulator.add({"individualEnrollments": [{"registrationId": "gw-1", "attestation": {
        "type": "x509", "x509": {"clientCertificates": {"primary": (kitchen.keys / "gateway.pem").read_text()}}}}]})


def cook_with_key(kitchen, name, **enrollment):
    """Recipes with a key of the device."""
    (kitchen.directory / "gateway.key").write_text(kitchen.gateway.emulator.enroll("gw-1", **enrollment) + "\n")
    kitchen.prepare(recipe("symmetric-key.conf"))
    return kitchen.serve(recipe(name))


def test_a_key_for_each_device(kitchen):
    assert cook_with_key(kitchen, "symmetric-key.conf")["Transport"] == "mqtt"


def test_a_key_for_a_whole_fleet(kitchen):
    write_secret(kitchen, "group.key", kitchen.gateway.emulator.enroll_group("fleet"))
    properties = kitchen.serve(recipe("group-key.conf"))
    assert properties["RegistrationId"].startswith("gw-")


def test_where_port_8883_is_blocked(kitchen):
    assert cook_with_key(kitchen, "https.conf")["Transport"] == "https"


def test_behind_a_proxy(kitchen):
    kitchen.proxy = Tinyproxy(f"BasicAuth gateway {PASSWORD}")
    kitchen.more += [f"Proxy=http://gateway@127.0.0.1:{kitchen.proxy.port}"]
    write_secret(kitchen, "proxy.password", PASSWORD)
    cook_with_key(kitchen, "proxy.conf")
    assert kitchen.proxy.n_tunnels > 0


def test_behind_a_socks_proxy(kitchen):
    kitchen.proxy = Microsocks()
    kitchen.more += [f"Proxy={kitchen.proxy.url}"]
    cook_with_key(kitchen, "socks.conf")
    assert "localhost" in kitchen.proxy.log  # the name, which the proxy has resolved


def test_a_certificate_with_its_key_in_a_file(kitchen):
    gateway = kitchen.gateway
    kitchen.prepare(recipe("x509.conf"))
    certificate, key = gateway.emulator.certificate("gw-1")
    write_secret(kitchen, "gateway.pem", certificate.read_text())
    write_secret(kitchen, "gateway-key.pem", key.read_text())
    enroll_certificate(gateway, kitchen)
    assert kitchen.serve(recipe("x509.conf"))["HubAuthentication"] == "x509"


def test_a_certificate_with_its_key_in_a_token(kitchen):
    kitchen.prepare(recipe("x509-pkcs11.conf"))
    enroll_certificate(kitchen.gateway, kitchen)
    kitchen.serve(recipe("x509-pkcs11.conf"))
    connection = kitchen.gateway.connection()
    assert connection["auth"] == "x509" and connection["keyUri"] == "pkcs11:token=gateway;object=dps"


def test_a_certificate_with_its_key_in_a_tpm(kitchen):
    kitchen.start_tpm()
    kitchen.prepare(recipe("x509-tpm.conf"))
    enroll_certificate(kitchen.gateway, kitchen)
    kitchen.serve(recipe("x509-tpm.conf"))
    connection = kitchen.gateway.connection()
    assert connection["auth"] == "x509" and connection["keyUri"] == "handle:0x81000002"


def test_a_certificate_with_its_key_in_a_file_for_a_tpm(kitchen):
    kitchen.start_tpm()
    kitchen.prepare(recipe("x509.conf"), nth=1)
    enroll_certificate(kitchen.gateway, kitchen)
    kitchen.serve(recipe("x509.conf"))
    assert (kitchen.keys / "gateway-key.pem").read_text().startswith("-----BEGIN TSS2 PRIVATE KEY-----")
    assert kitchen.gateway.connection()["keyFile"] == str(kitchen.keys / "gateway-key.pem")


def test_tpm_attestation(kitchen):
    kitchen.start_tpm()
    kitchen.tpm.make_keys()
    enroll(kitchen.gateway.emulator, "gw-1", kitchen.tpm.public(EK))
    properties = kitchen.serve(recipe("tpm.conf"))
    assert (properties["AttestationMethod"], properties["HubAuthentication"]) == ("tpm", "sas")


def test_a_certificate_that_dps_issues(kitchen):
    cook_with_key(kitchen, "issued.conf", issuance={"lifetime": 86400})
    connection = kitchen.gateway.connection()
    assert connection["auth"] == "x509" and connection["certificateKind"] == "issued"


def test_a_certificate_that_dps_issues_for_a_key_in_a_token(kitchen):
    kitchen.prepare(recipe("issued-pkcs11.conf"))
    cook_with_key(kitchen, "issued-pkcs11.conf", issuance={"lifetime": 86400})
    connection = kitchen.gateway.connection()
    assert connection["certificateKind"] == "issued" and connection["keyUri"].startswith("pkcs11:token=gateway;object=hub-")


def test_a_certificate_that_dps_issues_for_a_key_in_a_tpm(kitchen):
    kitchen.start_tpm()
    cook_with_key(kitchen, "issued-tpm.conf", issuance={"lifetime": 86400})
    assert kitchen.gateway.connection()["certificateKind"] == "issued"
    assert "TSS2" in kitchen.gateway.files()["key.pem"]


# For images and for programs


def test_an_image_of_a_fleet_has_no_errors(gateway, tmp_path):
    image = tmp_path / "image/usr/lib/dps"
    image.mkdir(parents=True)
    for name in ("dpsd.conf", "gateway.conf"):
        (image / name).write_text(recipe(f"fleet-{name}"))
    done = gateway.dpsctl("verify-config", f"--root={tmp_path}/image", CONFIGURATION_DIRECTORY="")
    assert (done.code, done.out) == (0, "The configuration has no errors.\n"), done


def test_one_image_for_a_fleet(kitchen):
    gateway = kitchen.gateway
    image = kitchen.directory / "usr-lib-dps"
    image.mkdir()
    (image / "dpsd.conf").write_text(recipe("fleet-dpsd.conf"))
    (image / "gateway.conf").write_text(kitchen.place(recipe("fleet-gateway.conf")))
    kitchen.variables |= {"CONFIGURATION_DIRECTORY": f"{gateway.configuration}:{image}", "PATH": f"{BUILD}/src/dpsctl:/usr/bin:/bin"}
    (kitchen.directory / "group.key").write_text(gateway.emulator.enroll_group("fleet") + "\n")
    kitchen.prepare(recipe("fleet-gateway.conf"))
    properties = kitchen.serve(None)
    assert properties["RegistrationId"].startswith("gw-") and properties["AssignedHub"]


@pytest.mark.parametrize("mode, code", [(0o400, 0), (0o444, 3)])
def test_a_daemon_in_a_container_takes_a_secret_of_the_mode_shown_and_no_other(kitchen, mode, code):
    gateway = kitchen.gateway
    secrets = kitchen.directory / "secrets"
    secrets.mkdir()
    (secrets / "gateway.key").write_text(gateway.emulator.enroll("gw-1") + "\n")
    (secrets / "gateway.key").chmod(mode)
    kitchen.configure(recipe("container.conf").replace("/run/secrets/", f"{secrets}/"))
    done = gateway.run_once("--once")
    assert done.code == code, done
    assert (gateway.run / "gateway/connection.json").exists() == (code == 0)


@pytest.fixture
def hub(gateway, tmp_path):
    """A hub that takes messages over HTTPS, beside an assigned gateway."""
    pki = Pki(tmp_path / "pki")
    hub = HttpsPeer(pki)
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    # The emulator's hubs are names that nobody can resolve; this one is.
    for name in ("connection.json", "hub.env"):
        path = gateway.run / "gateway" / name
        text = re.sub(r"(\"hub\": *\"|IOTHUB_HOSTNAME=\"?)hub-[12].example", rf"\1localhost:{hub.port}", path.read_text())
        (tmp_path / name).write_text(text.replace(str(gateway.emulator.ca_file), str(pki.ca_file)))
    yield hub
    hub.close()


def run_program(gateway, directory, name, *arguments, text=""):
    path = directory / name
    path.write_text((RECIPES / name).read_text(encoding="utf-8").replace("/run/dps/gateway/", f"{directory}/"), encoding="utf-8")
    command = ["/usr/bin/python3", "-B", path] if name.endswith(".py") else ["sh", path]
    return subprocess.run([*map(str, command), *map(str, arguments)], input=text, capture_output=True, text=True, timeout=4 * DEADLINE,
                          check=False, env=clean_environment(directory, DBUS_SYSTEM_BUS_ADDRESS=gateway.bus_address,
                                                       PATH=f"{BUILD}/src/dpsctl:/usr/bin:/bin"))


def expect_message(gateway, request, body):
    assert (request.method, request.target) == ("POST", "/devices/gateway/messages/events?api-version=2020-03-13")
    assert request.headers["authorization"] == gateway.connection()["password"] and request.body == body


def test_a_shell_script_sends_and_reports(gateway, hub, tmp_path):
    hub.answers = [message(204, b"")]
    (tmp_path / "data").write_bytes(b"21.5")
    done = run_program(gateway, tmp_path, "telemetry", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    expect_message(gateway, hub.requests[0], b"21.5")
    gateway.wait_for(check=lambda p: p["HubLastSeenAt"] > 0)


@pytest.mark.parametrize("status, answer", [(401, "dpsd asks DPS again"), (404, "dpsd asks DPS again"),
                                            (429, "dpsd does not ask DPS"), (503, "dpsd does not ask DPS")])
def test_a_shell_script_reports_a_refusal(gateway, hub, tmp_path, status, answer):
    hub.answers = [message(status, b"")]
    (tmp_path / "data").write_bytes(b"21.5")
    done = run_program(gateway, tmp_path, "telemetry", tmp_path / "data")
    assert done.returncode == 1 and answer in done.stdout, done


def test_a_program_in_python_sends_each_line_and_one_again_that_the_hub_did_not_take(gateway, hub, tmp_path):
    hub.answers = [message(503, b""), message(204, b""), message(204, b"")]
    done = run_program(gateway, tmp_path, "telemetry.py", text="one\ntwo\n")
    assert done.returncode == 0, done.stderr
    assert [request.body for request in hub.requests] == [b"one\n", b"one\n", b"two\n"]
    expect_message(gateway, hub.requests[2], b"two\n")


def test_a_program_in_c(gateway, tmp_path):
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    [commands] = [block for blocks in sections() for block in blocks if "dps-client.c" in block]
    commands = re.sub(r"^\$ ", "", commands, flags=re.M).replace("/usr/share/doc/dps/", f"{REPOSITORY}/data/")
    done = subprocess.run(["sh", "-euc", commands], cwd=tmp_path, capture_output=True, text=True, timeout=4 * DEADLINE, check=False,
                          env=clean_environment(tmp_path, DBUS_SYSTEM_BUS_ADDRESS=gateway.bus_address))
    assert done.stdout.split()[:2] == [properties["AssignedHub"], "gateway"], done.stderr


def run_shown(kitchen, begin, end, **environment):
    """Runs the commands of the page from one word to another, with the hub at the emulator's place."""
    [commands] = [block for blocks in sections() for block in blocks if block.startswith("$ . /run/dps") and begin in block]
    emulator = kitchen.gateway.emulator
    commands = re.sub(r"^\$ ", "", commands, flags=re.M).replace("/run/dps/", f"{kitchen.gateway.run}/")
    commands = commands.replace("/usr/share/doc/dps/", f"{REPOSITORY}/data/").replace(" TPM2OPENSSL_TCTI=device:/dev/tpmrm0", "")
    commands = commands.rstrip().replace("hub.env\n", f"hub.env\nIOTHUB_HOSTNAME=localhost IOTHUB_PORT={emulator.port}\n", 1)
    return subprocess.run(["sh", "-euc", commands + end], cwd=kitchen.directory, capture_output=True, text=True, timeout=4 * DEADLINE,
                          check=False, env=clean_environment(kitchen.directory, HOME=kitchen.directory, **kitchen.variables | environment))


def test_a_program_whose_key_is_in_a_token(kitchen):
    """Openssl shows the certificate, and its signature is what the emulator verifies in TLS 1.3 after the session is there."""
    kitchen.prepare(recipe("issued-pkcs11.conf"))
    cook_with_key(kitchen, "issued-pkcs11.conf", issuance={"lifetime": 86400, "hub": "issued"})
    (kitchen.directory / "token.pin").write_text("1234")
    connection = kitchen.gateway.connection()
    text = b"".join(len(one).to_bytes(2, "big") + one for one in (connection["clientId"].encode(), connection["username"].encode()))
    packet = b"\x00\x04MQTT\x04\x82\x00\x3c" + text
    (kitchen.directory / "packet").write_bytes(b"\x10" + bytes([len(packet)]) + packet + b"\xe0\x00")
    done = run_shown(kitchen, "-engine pkcs11", ' -CAfile "$IOTHUB_CA_FILE" -quiet < packet')
    assert done.returncode == 0, done.stderr
    assert [event["status"] for event in kitchen.gateway.emulator.requests("hub-connect")] == [0], done.stderr


@pytest.mark.skipif(not resource_manager(), reason="there is no tpm2-abrmd")
def test_a_program_whose_key_is_in_a_tpm(kitchen):
    kitchen.start_tpm()
    cook_with_key(kitchen, "issued-tpm.conf", issuance={"lifetime": 86400, "hub": "issued"})
    manager = ResourceManager(kitchen.directory, kitchen.tpm.tcti)
    try:
        done = run_shown(kitchen, "mosquitto_pub", "", **manager.environment)
    finally:
        manager.close()
    assert done.returncode == 0, done.stderr
    assert [event["status"] for event in kitchen.gateway.emulator.requests("hub-connect")] == [0]


def test_the_enrollment_is_printed_as_shown(kitchen):
    cook_with_key(kitchen, "symmetric-key.conf")
    [shown] = [block for blocks in sections() for block in blocks if block.startswith("$ dpsctl enrollment")]
    assert kitchen.gateway.dpsctl("enrollment", "gateway").out == shown.split("\n", 1)[1]


def test_the_settings_that_replace_those_of_others_exist():
    known = set(re.findall(r"\b([A-Z][A-Za-z0-9]+)=", (REPOSITORY / "man/dps.conf.5").read_text(encoding="utf-8")))
    moving = PAGE[PAGE.index(".Sh FROM AZIOT"):]
    assert set(re.findall(r"\b([A-Z][A-Za-z0-9]+)=", moving)) - {"HostName", "DeviceId", "SharedAccessSignature"} <= known
