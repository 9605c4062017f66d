import stat

import pytest
from click.testing import CliRunner

from swarm.cli import main, private
from swarm.cli.private import parse_allowed, parse_swarm_key
from swarm.errors import UsageFault
from swarm.identity import Identity

PEERS = [Identity.from_seed(bytes([number]) * 32).peer_id for number in range(1, 4)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_swarm_key_is_made_once_and_read_by_every_command(tmp_path):
    made = run("key", "new", "ours.key")
    assert (made.exit_code, made.stdout) == (0, "")
    assert "--swarm-key ours.key to every command" in made.stderr
    assert stat.S_IMODE((tmp_path / "ours.key").stat().st_mode) == 0o600
    again = run("key", "new", "ours.key")
    assert again.exit_code == 2
    assert "ours.key exists" in again.stderr
    assert parse_swarm_key("ours.key").hex() in (tmp_path / "ours.key").read_text()
    for command in ("bootstrap", "worker", "client", "status"):
        assert "SWARM_KEY" in run(command, "--help").stdout
        refused = run(command, "--swarm-key", "absent.key")
        assert refused.exit_code == 2
        assert "absent.key cannot be read" in refused.stderr


def test_a_peers_own_key_is_no_swarm_key(tmp_path):
    Identity.load_or_create(tmp_path / "peer.key")
    refused = run("status", "--swarm-key", "peer.key")
    assert refused.exit_code == 2
    assert "peer.key is no swarm key" in refused.stderr


def test_ones_own_id_for_others_to_allow(tmp_path):
    shown = run("key", "id").stdout.strip()
    assert shown == str(Identity.load_or_create(tmp_path / "swarm" / "client.key").peer_id)
    assert run("key", "id", "worker").stdout.strip() == str(
        Identity.load_or_create(tmp_path / "swarm" / "worker.key").peer_id
    )
    assert run("key", "id", "--key", "mine.key").stdout.strip() == str(
        Identity.load_or_create(tmp_path / "mine.key").peer_id
    )


def test_peers_are_allowed_by_id_and_by_file(tmp_path):
    (tmp_path / "ids").write_text(f"# friends\n\n{PEERS[0]}  # Ada\n  {PEERS[1]}\n")
    assert parse_allowed(str(PEERS[2])) == {PEERS[2]}
    assert parse_allowed("ids") == set(PEERS[:2])
    assert private.everybody_allowed([]) is None
    assert private.everybody_allowed([parse_allowed("ids"), parse_allowed(str(PEERS[2]))]) == set(PEERS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ab12", "'ab12' is neither a peer's whole id"),
        ("x" * 64, "is no peer id"),
        ("y" * 5000, "neither a peer's whole id"),
        ("empty", "empty names no peer"),
        ("wrong", "wrong, line 2: 'zz' is no peer id"),
        ("binary", "no file of peers' ids"),
        ("long", "longer than"),
        (".", "neither"),
    ],
)
def test_what_names_nobody_allows_nobody(tmp_path, text, says):
    (tmp_path / "empty").write_text("# nobody yet\n")
    (tmp_path / "wrong").write_text(f"{PEERS[0]}\nzz\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long").write_text("#" * (private.MAX_FILE_BYTES + 1))
    with pytest.raises(UsageFault, match=says):
        parse_allowed(text)


def test_more_peers_than_are_taken_are_refused():
    many = frozenset(number.to_bytes(32, "big") for number in range(private.MAX_ALLOWED + 1))
    with pytest.raises(UsageFault, match="use a swarm key instead"):
        private.everybody_allowed([many])
