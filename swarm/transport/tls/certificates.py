"""Peers' keys as TLS certificates: one leaf for each peer, and the identity that a finished handshake has proved.

The standard `ssl` module asks a client for its certificate, and shows it, only if some authority vouches for it. So there
is a NULL AUTHORITY: its private key is derived from a public constant, everybody can issue certificates under it, and it
therefore GRANTS NOTHING. What authenticates a peer is TLS 1.3's CertificateVerify (RFC 8446, section 4.4.3), which proves
possession of the leaf's private key, and the comparison of the leaf's public key with the peer id. A member of a private swarm
carries the proof of it in its leaf (see `swarm.membership`). Knows nothing of sockets.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from swarm.identity import Identity, PeerId
from swarm.membership import PROOF_BYTES, proof_of, stranger

ALPN = "swarm"  # without a version: versions are named by the Hello, in words a person can read
# Fixed dates, so that no peer's clock decides whether another one may connect.
_FROM = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_UNTIL = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)
_NULL_KEY = Ed25519PrivateKey.from_private_bytes(
    hashlib.sha256(b"swarm null authority: no secret, grants nothing").digest()
)
_NULL_PUBLIC = _NULL_KEY.public_key().public_bytes_raw()
_NULL_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarm null authority")])
# An arc that needs no registration (ITU-T X.667, section 7). The value is a DER octet string.
MEMBERSHIP = x509.ObjectIdentifier(f"2.25.{int.from_bytes(hashlib.sha256(b'swarm membership 1').digest()[:16], 'big')}")
_OCTETS = bytes([0x04, PROOF_BYTES])


class NoIdentity(Exception):
    """A handshake that proved no peer's key; the text says what was wrong."""


class OtherSwarm(NoIdentity):
    """The peer's key is proved, but it is of another swarm; the text says which of the two is private."""


def _certificate(
    name: x509.Name, key: Ed25519PublicKey, serial: int, authority: bool, proof: bytes | None = None
) -> bytes:
    """PEM, issued by the null authority. Ed25519 is deterministic: the authority's own is the same everywhere."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(_NULL_NAME)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
    )
    if proof is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(MEMBERSHIP, _OCTETS + proof), critical=False)
    return builder.sign(_NULL_KEY, None).public_bytes(Encoding.PEM)


def contexts(identity: Identity, swarm_key: bytes | None = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the listening and for the dialling side: TLS 1.3 only, both ends must show a leaf."""
    raw = bytes(identity.peer_id)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, raw.hex())])
    serial = int.from_bytes(hashlib.sha256(raw).digest()[:16], "big") >> 1
    proof = None if swarm_key is None else proof_of(swarm_key, identity.peer_id)
    leaf = _certificate(name, identity.key.public_key(), serial, False, proof)
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server = _context(ssl.PROTOCOL_TLS_SERVER, leaf, key)
    client = _context(ssl.PROTOCOL_TLS_CLIENT, leaf, key)
    server.num_tickets = 0  # nothing is resumed
    return server, client


def _context(protocol: int, leaf: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # peers have keys, not names
    context.verify_mode = ssl.CERT_REQUIRED
    authority = _certificate(_NULL_NAME, _NULL_KEY.public_key(), 1, True)
    context.load_verify_locations(cadata=authority.decode("ascii"))
    with _readable(leaf) as leaf_path, _readable(key) as key_path:
        context.load_cert_chain(leaf_path, key_path)
    context.set_alpn_protocols([ALPN])
    return context


@contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """A path at which these few bytes can be read once: `ssl` takes keys by path only, and ours shall touch no disk."""
    source, sink = os.pipe()
    try:
        try:
            os.write(sink, content)
        finally:
            os.close(sink)
        yield f"/dev/fd/{source}"
    finally:
        os.close(source)


def proved_peer(finished: ssl.SSLObject, swarm_key: bytes | None = None) -> PeerId:
    """Whose key the other side of a finished handshake holds. Raises NoIdentity; OtherSwarm when it is not of our swarm."""
    if finished.version() != "TLSv1.3":
        raise NoIdentity(f"it speaks {finished.version()}, not TLS 1.3")
    if finished.selected_alpn_protocol() != ALPN:
        raise NoIdentity("it is no swarm peer (another application protocol)")
    shown = finished.getpeercert(binary_form=True)
    if shown is None:
        raise NoIdentity("it showed no certificate")
    try:
        certificate = x509.load_der_x509_certificate(shown)
        key, proof = certificate.public_key(), _proof_in(certificate)
    except Exception as error:  # whatever a stranger's bytes do to the parser, it proved nothing
        raise NoIdentity(f"its certificate cannot be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise NoIdentity(f"its key is no Ed25519 key but {type(key).__name__}")
    raw = key.public_bytes_raw()
    if raw == _NULL_PUBLIC:
        raise NoIdentity("it shows the null authority's key, which everybody has")
    peer_id = PeerId(raw)
    why = stranger(swarm_key, peer_id, proof)
    if why is not None:
        raise OtherSwarm(why)
    return peer_id


def _proof_in(certificate: x509.Certificate) -> bytes | None:
    """Of membership in a private swarm. One of a wrong form is a wrong one, not an absent one."""
    for extension in certificate.extensions:
        if extension.oid == MEMBERSHIP and isinstance(extension.value, x509.UnrecognizedExtension):
            return extension.value.value.removeprefix(_OCTETS)
    return None
