# SPDX-License-Identifier: MIT
"""dps-recipes(7): every recipe works as it is written, commands and all; only paths, ports and names of hosts are the test's."""
import re
import subprocess

import pytest

from process import BUILD, DEADLINE, REPOSITORY, clean_environment
from proxies import PASSWORD, Microsocks, Tinyproxy, mirrors
from tpm import EK, Tpm, enroll, modules

PAGE = (REPOSITORY / "man/dps-recipes.7").read_text(encoding="utf-8")
RECIPES = REPOSITORY / "data/examples/recipes"
CONFS = sorted(path.name for path in RECIPES.iterdir())


def text_of(block):
    return block.replace("\\(aq", "'").replace("\\e", "\\")


def sections():
    """The literal blocks of each section of the page."""
    for section in re.split(r"^\.Sh ", PAGE, flags=re.M)[1:]:
        yield [text_of(block) for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed\n", section, flags=re.M | re.S)]


def commands_for(conf):
    """The commands of the section that has this conf, and of the introduction, which makes the directory for keys."""
    of_sections = list(sections())
    mine = next(blocks for blocks in of_sections if conf in blocks)
    first = [block for block in of_sections[1] if block.startswith("# install -d")]
    return [re.sub(r"^# ", "", block, flags=re.M) for block in first + mine if block.startswith("# ")]


def recipe(name):
    """The file without the line about its licence."""
    return (RECIPES / name).read_text(encoding="utf-8").split("\n", 1)[1]


@pytest.mark.parametrize("name", CONFS)
def test_the_page_shows_the_installed_file(name):
    assert any(recipe(name) in blocks for blocks in sections())


def test_every_conf_of_the_page_is_installed():
    shown = {block for blocks in sections() for block in blocks if block.startswith("[")}
    assert shown == {recipe(name) for name in CONFS}


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

    def prepare(self, conf):
        for commands in commands_for(conf):
            done = subprocess.run(["sh", "-euc", self.place(commands)], cwd=self.directory, capture_output=True, text=True,
                                  timeout=4 * DEADLINE, check=False, env=clean_environment(self.directory, HOME=self.directory, **self.variables))
            assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"

    def serve(self, conf):
        emulator = self.gateway.emulator
        self.gateway.write_conf("gateway", self.place(conf))
        drop_in = self.gateway.configuration / "gateway.conf.d" / "50-test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("\n".join(["[Provisioning]", "Endpoint=localhost", f"MqttPort={emulator.port}", f"HttpsPort={emulator.https_port}",
                                      f"CaFile={emulator.ca_file}", *self.more]) + "\n")
        done = self.gateway.execute("dpsctl", "verify-config", self.gateway.configuration / "gateway.conf")
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
