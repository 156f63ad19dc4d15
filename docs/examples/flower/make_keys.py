"""Makes, in a new folder, all that TLS and node authentication need on one machine.

An authority, a certificate for 127.0.0.1 and localhost, and one key pair for each node. In a
real deployment every node makes its own pair and hands out the public half only.
"""

import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey
VALID = timedelta(days=30)


def main(folder: Path, nodes: int) -> None:
    """Write ca.crt, link.crt, link.key, and node-1, node-1.pub and so on. Overwrites nothing."""
    folder.mkdir(mode=0o700, parents=True)
    authority, link = _key(), _key()
    root = _name("secagg example authority")
    ca = _certificate(root, root, authority, authority, x509.BasicConstraints(True, 0))
    hosts = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    )
    server = _certificate(_name("localhost"), root, link, authority, hosts)
    (folder / "ca.crt").write_bytes(ca.public_bytes(Encoding.PEM))
    (folder / "link.crt").write_bytes(server.public_bytes(Encoding.PEM))
    _private(folder / "link.key", link, PrivateFormat.PKCS8)
    for number in range(1, nodes + 1):
        key = _key()
        _private(folder / f"node-{number}", key, PrivateFormat.OpenSSH)
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (folder / f"node-{number}.pub").write_bytes(public + b"\n")


def _key() -> Key:
    return ec.generate_private_key(ec.SECP384R1())


def _private(path: Path, key: Key, kind: PrivateFormat) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, kind, NoEncryption()))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: Key, signer: Key, extension: x509.ExtensionType
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALID)
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return builder.sign(signer, SHA384())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
