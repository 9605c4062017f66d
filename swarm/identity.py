"""Who a peer is: an Ed25519 key (RFC 8032). A peer id is the 32-byte public key; the key file is created once, mode 0600."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swarm.errors import UsageFault

KEY_BYTES = 32
SIGNATURE_BYTES = 64


class PeerId(bytes):
    """A peer's public key: 32 bytes, shown as 64 hex digits, in tables as the first 8."""

    def __new__(cls, raw: bytes) -> PeerId:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a peer id has {KEY_BYTES} bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """From 64 hex digits. Raises UsageFault."""
        try:
            return cls(bytes.fromhex(text))
        except ValueError:
            raise UsageFault(f"'{text}' is no peer id: 64 hex digits are expected") from None

    @property
    def short(self) -> str:
        return self.hex()[:8]

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"PeerId({self.short}…)"

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether this peer signed `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes(self)).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Identity:
    """A peer's private key. `Identity.generate()` for a passing one, `Identity.load_or_create(path)` for one that stays."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.key = key
        self.peer_id = PeerId(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Identity:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The key whose 32 private bytes are `seed`."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """Read the key file, or create it (and its folder) readable by its owner alone. Raises UsageFault."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            identity = cls.generate()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls._load(path)
        except OSError as error:
            raise UsageFault(f"the key file {path} cannot be created: {error.strerror}") from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(identity.key.private_bytes_raw().hex().encode() + b"\n")
        except OSError as error:  # such as a full disk; a file without a key would be refused from then on
            path.unlink()
            raise UsageFault(f"the key file {path} cannot be written: {error.strerror}") from error
        return identity

    @classmethod
    def _load(cls, path: Path) -> Identity:
        try:
            with path.open("rb") as file:
                text = file.read(4 * KEY_BYTES)
            return cls.from_seed(bytes.fromhex(text.decode("ascii").strip()))
        except OSError as error:
            raise UsageFault(f"the key file {path} cannot be read: {error.strerror}") from error
        except ValueError:
            raise UsageFault(f"{path} is no key file of a peer: move it away or name another with --key") from None

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id.short}…)"
