# SPDX-License-Identifier: MIT
"""Server certificates, good and bad, each as the TLS context of a server."""
import datetime
import ipaddress
import ssl
import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
HOSTS = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Issuer:
    """A CA, signed by itself or by its parent."""

    def __init__(self, text, parent=None):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = name(text)
        self.identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        # Python 3.13 and later trust no CA that does not say all of this.
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
                              data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False)
        self.certificate = (parent or self).sign(self.name, self.key, [
            (x509.BasicConstraints(True, None), True), (usage, True), (x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)])

    def sign(self, subject, key, extensions, not_before=-1, not_after=30):
        """Returns a certificate; not_before and not_after are days from now."""
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now + not_before * DAY).not_valid_after(now + not_after * DAY))
        for extension, is_critical in [*extensions, (self.identifier, False)]:
            builder = builder.add_extension(extension, is_critical)
        return builder.sign(self.key, hashes.SHA256())


def pem(*certificates):
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Pki:
    """Makes TLS contexts, such as context("expired"). Clients should trust only `ca_file`."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.issuer = Issuer("hostile test CA")
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(pem(self.issuer.certificate))
        self.contexts = {}

    def leaf(self, issuer=None, key=None, hosts=None, purpose=ExtendedKeyUsageOID.SERVER_AUTH, **validity):
        """Returns key and certificate of a server."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        extensions = [(x509.SubjectAlternativeName(hosts or HOSTS), False), (x509.ExtendedKeyUsage([purpose]), False)]
        return key, (issuer or self.issuer).sign(name("server"), key, extensions, **validity)

    def make(self, kind):
        """Returns key, certificate, and the other certificates that the server sends."""
        if kind == "wrong-host":
            return self.leaf(hosts=[x509.DNSName("elsewhere.example")])
        if kind == "expired":
            return self.leaf(not_before=-30, not_after=-1)
        if kind == "not-yet-valid":
            return self.leaf(not_before=1)
        if kind == "untrusted":
            return self.leaf(Issuer("another CA"))
        if kind == "impostor":  # another CA with the name of the trusted one
            impostor = Issuer("hostile test CA")
            impostor.identifier = self.issuer.identifier
            return self.leaf(impostor)
        if kind == "unchained":
            return self.leaf(Issuer("intermediate CA", self.issuer))
        if kind == "chained":
            intermediate = Issuer("intermediate CA", self.issuer)
            return *self.leaf(intermediate), intermediate.certificate
        if kind == "overlong":
            return *self.leaf(), *[self.issuer.certificate] * 400
        if kind == "self-signed":
            issuer = Issuer("server")
            return issuer.key, issuer.sign(issuer.name, issuer.key, [(x509.SubjectAlternativeName(HOSTS), False)])
        if kind == "wrong-purpose":
            return self.leaf(purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
        if kind == "weak-key":
            return self.leaf(key=rsa.generate_private_key(65537, 1024))
        return self.leaf()

    def client(self, registration_id, is_trusted=True):
        """Makes certificate and key of a device; returns their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.issuer if is_trusted else Issuer("another CA")
        certificate = issuer.sign(name(registration_id), key, [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)])
        paths = [self.directory / f"{registration_id}.{what}" for what in ("pem", "key")]
        for path, content in zip(paths, (pem(certificate), key_pem(key))):
            path.touch(0o600)
            path.write_bytes(content)
        return paths

    def context(self, kind="good"):
        if kind not in self.contexts:
            self.contexts[kind] = self.make_context(kind)
        return self.contexts[kind]

    def make_context(self, kind):
        key, certificate, *more = self.make(kind)
        path = self.directory / f"{kind}.pem"
        path.write_bytes(key_pem(key) + pem(certificate, *more))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if kind in ("weak-key", "tls-1.0", "tls-1.1"):
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(path)
        versions = {"tls-1.0": ssl.TLSVersion.TLSv1, "tls-1.1": ssl.TLSVersion.TLSv1_1, "tls-1.2": ssl.TLSVersion.TLSv1_2,
                    "tls-1.3": ssl.TLSVersion.TLSv1_3}
        for word, version in versions.items():
            if kind.endswith(word):
                with warnings.catch_warnings(action="ignore"):  # Python warns of old TLS versions
                    context.minimum_version = context.maximum_version = version
        if kind.startswith("wants-certificate"):
            context.load_verify_locations(self.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
