import stat

import pytest

from swarm.errors import UsageFault
from swarm.identity import Identity
from swarm.membership import PROOF_BYTES, SWARM_KEY_BYTES, create_swarm_key, proof_of, read_swarm_key, stranger

MEMBER = Identity.from_seed(b"m" * 32).peer_id
OURS, THEIRS = b"o" * 32, b"t" * 32


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "folder" / "swarm.key"
    create_swarm_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = read_swarm_key(path)
    assert len(secret) == SWARM_KEY_BYTES
    with pytest.raises(UsageFault, match="exists: a swarm key is not replaced"):
        create_swarm_key(path)
    assert read_swarm_key(path) == secret
    create_swarm_key(tmp_path / "other.key")
    assert read_swarm_key(tmp_path / "other.key") != secret


@pytest.mark.parametrize("text", ["", "ab" * 32, "swarm-key-1:", "swarm-key-1:" + "g" * 64, "swarm-key-2:" + "0" * 64])
def test_what_is_no_swarm_key_is_named(tmp_path, text):
    """A peer's own key least of all: whoever hands that round gives away who he is."""
    (tmp_path / "key").write_text(text)
    with pytest.raises(UsageFault, match=r"key is no swarm key: `swarm key new FILE` makes one"):
        read_swarm_key(tmp_path / "key")
    with pytest.raises(UsageFault, match="cannot be read"):
        read_swarm_key(tmp_path / "absent")
    with pytest.raises(UsageFault, match="cannot be read"):
        read_swarm_key(tmp_path)


def test_a_proof_is_of_one_peer_and_one_swarm():
    assert len(proof_of(OURS, MEMBER)) == PROOF_BYTES
    assert stranger(OURS, MEMBER, proof_of(OURS, MEMBER)) is None
    assert stranger(None, MEMBER, None) is None
    other = Identity.from_seed(b"n" * 32).peer_id
    for swarm_key, shown, says in (
        (None, proof_of(OURS, MEMBER), "of a private swarm, and no key"),
        (OURS, None, "of no private swarm"),
        (OURS, proof_of(THEIRS, MEMBER), "of another private swarm"),
        (OURS, proof_of(OURS, other), "of another private swarm"),
        (OURS, b"", "of another private swarm"),
    ):
        assert says in (stranger(swarm_key, MEMBER, shown) or "")
