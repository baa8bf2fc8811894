# SPDX-License-Identifier: MIT
"""No copy of a secret stays in the daemon's memory when it is at rest, whoever made the copy: ours, OpenSSL, libmosquitto, json-c."""
import base64
import contextlib
import hashlib
import hmac
import mmap
import re
import resource

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import tpm
from hardware import PIN, Token, certify, secret
from namespace import needs_root, needs_secrets
from process import BUILD, SLOWER, UNDER, WORLD, eventually
from proxies import PASSWORD, USER, Microsocks

pytestmark = [pytest.mark.skipif(bool(UNDER), reason="the program that dpsd runs under keeps what was freed"),
              pytest.mark.skipif(SLOWER > 1, reason="a sanitizer keeps what was freed")]
NAMES = ["plain", "of-group", "ec", "rsa", "hardware"]


def pages_of(memory, start, end):
    for page in range(start, end, mmap.PAGESIZE):
        memory.seek(page)
        with contextlib.suppress(OSError):
            yield memory.read(mmap.PAGESIZE)


def memory_of(process):
    """What the process can write to: heaps, stacks, variables."""
    parts = []
    with open(f"/proc/{process.pid}/maps", encoding="utf-8") as maps, open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            addresses, rights = line.split()[:2]
            start, end = (int(address, 16) for address in addresses.split("-"))
            if rights.startswith("rw"):
                memory.seek(start)
                try:
                    parts.append(memory.read(end - start))
                except OSError:  # glibc 2.42 guards the stack of a thread in the same mapping, and nobody can read the guard
                    parts += pages_of(memory, start, end)
    return b"\n".join(parts)


def numbers_of(private_key):
    """The secret numbers of a key, which are all that its forms have in common, as DER has them and as OpenSSL does."""
    numbers = private_key.private_numbers()
    secrets = [numbers.p, numbers.q, numbers.d] if hasattr(numbers, "p") else [numbers.private_value]
    return [n.to_bytes((n.bit_length() + 7) // 8, order) for n in secrets for order in ("big", "little")]


def of_pem(path):
    text = path.read_bytes()
    key = serialization.load_pem_private_key(text, None)
    return [text.splitlines()[1][:40], *numbers_of(key)]


def of_base64(text):
    return [text.encode().rstrip(b"="), base64.b64decode(text)]


def certify_rsa(emulator, registration_id, directory):
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    return certify(emulator, registration_id, public, directory / "rsa.pem"), secret(directory / "rsa.key", text)


@pytest.fixture
def everything(gateway, emulator, proxy, tmp_path):
    """A gateway with an identity of each kind, and its secrets by name."""
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = tpm.modules(gateway.directory / "modules", BUILD)
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    url = proxy(Microsocks, USER, PASSWORD).url.replace("//", f"//{USER}@")
    device, group = emulator.enroll("plain"), emulator.enroll_group("line-1")
    derived = base64.b64encode(hmac.digest(base64.b64decode(group), b"of-group", hashlib.sha256)).decode()
    gateway.identity("plain", key=device, provisioning={"Proxy": url, "ProxyPassword": gateway.write_key("proxy", PASSWORD)})
    gateway.identity("of-group", key="", attestation={"GroupKey": gateway.write_key("group.key", group), "Key": None})
    secrets = {"device key": of_base64(device), "group key": of_base64(group), "derived key": of_base64(derived),
               "proxy password": [PASSWORD.encode()]}
    pairs = {"ec": emulator.certificate("ec"), "rsa": certify_rsa(emulator, "rsa", tmp_path)}
    for kind, (certificate, key) in pairs.items():
        gateway.identity(kind, method="x509", attestation={"Certificate": certificate, "PrivateKey": key})
        secrets[f"{kind} key"] = of_pem(key)
    token = Token(tmp_path / "token")
    gateway.surroundings |= {key: str(value) for key, value in token.environment.items()}
    certificate = certify(emulator, "hardware", token.make_key("dps"), tmp_path / "hardware.pem")
    gateway.identity("hardware", method="x509", attestation={
        "Certificate": certificate, "PrivateKey": "pkcs11:token=gw;object=dps", "Pkcs11Module": token.module,
        "Pin": secret(tmp_path / "pin", PIN + "\n")})
    secrets["PIN"] = [PIN.encode()]
    return gateway, secrets


def left_in_memory(gateway, secrets):
    """How often each secret is still there, by name."""
    memory = memory_of(gateway.process)
    signatures = [re.search(r"sig=([^&]+)", gateway.files(name)["token"])[1].encode() for name in NAMES[:2]]
    wanted = secrets | {"hub token": signatures, "DPS token": [b"0ne00AABBCC%2Fregistrations", b"0ne00AABBCC%2fregistrations"]}
    found = {name: [memory.count(form) for form in forms] for name, forms in wanted.items()}
    return {name: counts for name, counts in found.items() if any(counts)}


def assert_forgotten(gateway, secrets):
    """The daemon has answered, but may be about to wipe."""
    left = {}

    def is_forgotten():
        left.clear()
        left.update(left_in_memory(gateway, secrets))
        return not left

    with contextlib.suppress(TimeoutError):
        eventually(is_forgotten, 5)
    assert left == {}


@needs_secrets
def test_no_secret_stays_in_memory_after_a_registration_nor_after_a_cached_start(everything):
    gateway, secrets = everything
    gateway.start()
    for name in NAMES:
        gateway.wait_for(name, State="assigned")
    for _ in range(2):
        for name in NAMES:
            assert gateway.dpsctl("reprovision", "--wait", name).code == 0
    for name in NAMES[:2]:
        gateway.call(name, "GetToken", "t", 3600)
    assert_forgotten(gateway, secrets)

    gateway.restart()
    for name in NAMES:
        gateway.wait_for(name, State="assigned", Healthy=True)
    assert_forgotten(gateway, secrets)


@needs_root
@pytest.mark.parametrize("limit, is_locked", [(resource.RLIM_INFINITY % 2**64, True), (65536, False)])
def test_memory_is_locked_where_there_is_no_limit_for_that(gateway, limit, is_locked):
    """Beyond a limit, the next mapping would fail: a thread, a module, a large answer."""
    gateway.surroundings |= {"LD_PRELOAD": WORLD, "DPS_TEST_MEMLOCK": limit}
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    with open(f"/proc/{gateway.process.pid}/status", encoding="ascii") as status:
        sizes = {key: int(value.split()[0]) for key, value in (line.split(":", 1) for line in status) if key.startswith("Vm")}
    assert sizes["VmLck"] > sizes["VmRSS"] if is_locked else sizes["VmLck"] == 0, sizes
