# SPDX-License-Identifier: MIT
"""Keys in hardware: a SoftHSM token and a software TPM of a test's own, and certificates for their keys."""
import datetime
import glob
import os
import re
import subprocess
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certificates import DAY, name, pem
from process import DEADLINE, clean_environment
from tpm import ResourceManager, Tpm

PIN = "271828"
CURVES = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}
SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"


def run(directory, *command, **environment):
    done = subprocess.run([*map(str, command)], cwd=directory, env=clean_environment(directory, HOME=directory, **environment),
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=DEADLINE)
    assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
    return done.stdout


def secret(path, text):
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(text, encoding="ascii")
    return path


# ---- what another program does with a key ----


def log_in(gateway, emulator, *options, **environment):
    """Logs in at the hub with openssl, which knows nothing of us but what it is handed."""
    connection = gateway.connection()
    text = b"".join(len(one).to_bytes(2, "big") + one for one in (connection["clientId"].encode(), connection["username"].encode()))
    packet = b"\x00\x04MQTT\x04\x82\x00\x3c" + text
    with subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{emulator.port}", "-CAfile", emulator.ca_file, "-quiet", "-cert",
                           connection["certificateFile"], *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=clean_environment(gateway.directory, **environment)) as client:
        client.stdin.write(b"\x10" + bytes([len(packet)]) + packet)
        client.stdin.flush()
        answer = client.stdout.read(4)
        client.kill()
        assert answer == b"\x20\x02\x00\x00", client.stderr.read().decode()


def log_in_with_token(gateway, emulator, token):
    log_in(gateway, emulator, "-engine", "pkcs11", "-keyform", "engine", "-key", f"{gateway.connection()['keyUri']}?pin-value={PIN}",
           PKCS11_MODULE_PATH=token.module, **token.environment)


def log_in_with_tpm(gateway, emulator, chip):
    connection = gateway.connection()
    manager = ResourceManager(gateway.directory, chip.tcti)
    try:
        log_in(gateway, emulator, "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2", "-key",
               connection.get("keyFile") or connection["keyUri"], **manager.environment)
    finally:
        manager.close()


# ---- keys ----


def certify(emulator, registration_id, public_der, path, not_before=-1, not_after=30):
    """Writes a certificate of the emulator's device CA, and the CA's after it."""
    ca = x509.load_pem_x509_certificate((emulator.state / "device-ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((emulator.state / "device-ca.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (x509.CertificateBuilder().subject_name(name(registration_id)).issuer_name(ca.subject)
               .public_key(serialization.load_der_public_key(public_der)).serial_number(x509.random_serial_number())
               .not_valid_before(now + not_before * DAY).not_valid_after(now + not_after * DAY))
    path.write_bytes(pem(builder.sign(ca_key, hashes.SHA256())))
    return path


class Token:
    """A SoftHSM token called "gw"."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "tokens").mkdir(parents=True)
        self.conf = directory / "softhsm2.conf"
        self.conf.write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.module = next(path for path in (SOFTHSM, *glob.glob("/usr/lib/*/softhsm/libsofthsm2.so")) if os.path.exists(path))
        self.environment = {"SOFTHSM2_CONF": self.conf}
        run(directory, "softhsm2-util", "--init-token", "--free", "--label=gw", "--so-pin=31415926", f"--pin={PIN}", **self.environment)

    def make_key(self, label, kind="secp256r1", number="01"):
        """Makes a key, which is imported; returns its public half (DER)."""
        key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(CURVES[kind])
        path = secret(self.directory / f"{label}-{number}.pem", key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode())
        run(self.directory, "softhsm2-util", f"--import={path}", "--token=gw", f"--label={label}", f"--id={number}", f"--pin={PIN}",
            **self.environment)
        return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def tool(self, *arguments):
        """SoftHSM does not see a token in the moment in which another process writes its file."""
        for _ in range(20):
            try:
                return run(self.directory, "pkcs11-tool", "--module", self.module, "--token-label", "gw", "--login", "--pin", PIN,
                           *arguments, **self.environment).decode()
            except AssertionError as error:
                if "No slot with token" not in str(error):
                    raise
                time.sleep(0.1)
        raise AssertionError("the token is gone")

    def keys(self):
        """The labels and ids of the private keys in it."""
        found = {"Private": [], "Public": []}
        for text in re.split(r"^(?=Private|Public)", self.tool("--list-objects"), flags=re.M)[1:]:
            label, number = re.search(r"label: +(.*)\n +ID: +(.*)", text).groups()
            # OpenSC 0.27 writes "84:ed", and "119 (0x77)", where it wrote "84ed" and "77".
            number = re.sub(r".*\(0x(.*)\)", r"\1", number).replace(":", "")
            found[text.split()[0]].append((label, number))
        return sorted(found["Private"])

    def publics(self):
        return self.tool("--list-objects").count("Public Key Object")


class Chip(Tpm):
    """A software TPM with private keys of certificates."""

    def make_key(self, handle, kind="ecc", auth=None):
        """Makes a persistent key; returns its public half (DER)."""
        self.run("createprimary", "-C", "o", "-G", "ecc", "-c", "primary.ctx")
        self.run("create", "-C", "primary.ctx", "-G", kind, "-u", "key.pub", "-r", "key.priv",
                  "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign", *(["-p", auth] if auth else []))
        self.run("load", "-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
        self.run("evictcontrol", "-C", "o", "-c", "key.ctx", handle)
        self.run("readpublic", "-c", handle, "-f", "der", "-o", "public.der")
        return (self.directory / "public.der").read_bytes()

    def make_file(self, path):
        """Makes a key as a TSS2 PEM file; returns its public half (DER)."""
        options = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2")
        run(self.directory, "openssl", "genpkey", *options, "-algorithm", "EC", "-pkeyopt", "group:P-256", "-out", path,
            TPM2OPENSSL_TCTI=self.tcti)
        os.chmod(path, 0o600)
        run(self.directory, "openssl", "pkey", *options, "-in", path, "-pubout", "-outform", "DER", "-out", "public.der",
            TPM2OPENSSL_TCTI=self.tcti)
        return (self.directory / "public.der").read_bytes()
