# SPDX-License-Identifier: MIT
"""TPM attestation with a real software TPM, from nothing to a login at the hub."""
import json

import pytest

import tpm as tools
from process import BUILD
from tpm import EK, KEY, SRK, Tpm, enroll

pytestmark = pytest.mark.skipif(not (BUILD / "src/credential/tpm.so").exists(), reason="built without tpm2-tss")


@pytest.fixture
def chip(tmp_path):
    chip = Tpm(tmp_path).start()
    yield chip
    chip.stop()


@pytest.fixture
def tpm_gateway(gateway, chip, emulator, tmp_path):
    """A gateway with TPM attestation; its TPM is empty, and nobody is enrolled."""
    emulator.set("*", behaviour={"tpmOverMqtt": True})
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = tools.modules(tmp_path / "modules", BUILD)
    gateway.configure = lambda name="gateway", provisioning=None, attestation=None: gateway.identity(
        name, method="tpm", provisioning={"Transport": "mqtt"} | (provisioning or {}),
        attestation={"Tcti": chip.tcti} | (attestation or {}))
    return gateway


def log_in(gateway, name="gateway"):
    """The CONNACK of the hub to what programs get."""
    connection = gateway.connection(name)
    return gateway.emulator.hub_connack(connection["clientId"], connection["username"], connection["password"])


def test_keys_of_the_factory_lead_to_an_assignment_and_a_login_at_the_hub(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    properties = tpm_gateway.wait_for(State="assigned", Healthy=True)
    assert properties["AttestationMethod"] == "tpm"
    assert properties["HubAuthentication"] == "sas"
    assert chip.persistent() == [SRK, KEY, EK]
    assert chip.transient() == []
    assert log_in(tpm_gateway) == 0
