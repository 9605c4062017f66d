"""Keys: created once, readable by their owner alone, and what they sign."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from support.disk import full_disk

from swarm.errors import UsageFault
from swarm.identity import Identity, PeerId


def test_a_key_file_is_created_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    created = Identity.load_or_create(path)
    assert Identity.load_or_create(path).peer_id == created.peer_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert created.key.private_bytes_raw().hex() not in repr(created)


@pytest.mark.parametrize("content", [b"", b"not hex", b"ab" * 31, b"ab" * 33, b"\xff" * 64])
def test_what_is_no_key_file_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(UsageFault, match=str(path)):
        Identity.load_or_create(path)
    assert path.read_bytes() == content


def test_a_place_that_cannot_hold_a_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "key", tmp_path / "file" / "deep" / "key"):
        with pytest.raises(UsageFault, match=str(path)):
            Identity.load_or_create(path)


def test_a_full_disk_is_told_and_leaves_no_file_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with full_disk(), pytest.raises(UsageFault, match=f"{path} cannot be written: File too large"):
        Identity.load_or_create(path)
    assert not path.exists()
    assert Identity.load_or_create(path)


def test_signatures() -> None:
    one, other = Identity.from_seed(bytes(32)), Identity.from_seed(b"\1" * 32)
    signature = one.sign(b"message")
    assert one.peer_id.verify(signature, b"message")
    assert not one.peer_id.verify(signature, b"massage")
    assert not one.peer_id.verify(signature[:-1], b"message")
    assert not other.peer_id.verify(signature, b"message")
    assert not PeerId(b"\xff" * 32).verify(signature, b"message")


def test_peer_ids() -> None:
    peer_id = Identity.from_seed(bytes(32)).peer_id
    assert PeerId.parse(str(peer_id)) == peer_id
    assert repr(peer_id) == f"PeerId({peer_id.hex()[:8]}…)"
    assert {peer_id: 1}[PeerId(bytes(peer_id))] == 1
    for text in ("", "zz" * 32, "ab" * 31):
        with pytest.raises(UsageFault, match="64 hex digits"):
            PeerId.parse(text)
    with pytest.raises(ValueError, match="32 bytes"):
        PeerId(b"short")
