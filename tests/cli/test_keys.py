import errno
import os
import stat
import subprocess
import sys
from contextlib import ExitStack

import pytest

from swarm.cli.keys import MAX_KEYS, data_directory, held_identity
from swarm.errors import UsageFault


def test_the_data_directory_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory({"XDG_DATA_HOME": "/data"}).as_posix() == "/data/swarm"
    assert data_directory({}) == tmp_path / ".local/share/swarm"
    assert data_directory({"XDG_DATA_HOME": "not/absolute"}) == tmp_path / ".local/share/swarm"


def test_a_key_is_made_once_and_kept(tmp_path):
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    with held_identity("worker", None, environment) as first:
        key = tmp_path / "swarm" / "worker.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    with held_identity("worker", None, environment) as again:
        assert again.peer_id == first.peer_id
    with held_identity("bootstrap", None, environment) as other:
        assert other.peer_id != first.peer_id


def test_two_workers_of_one_machine_are_two_peers(tmp_path):
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    with ExitStack() as stack:
        peers = {stack.enter_context(held_identity("worker", None, environment)).peer_id for _ in range(3)}
    assert len(peers) == 3
    assert sorted(path.name for path in (tmp_path / "swarm").glob("*.key")) == [
        "worker-2.key",
        "worker-3.key",
        "worker.key",
    ]


def test_a_named_key_in_use_is_refused(tmp_path):
    key = tmp_path / "folder" / "my.key"
    with ExitStack() as stack:
        first = stack.enter_context(held_identity("worker", key))
        with pytest.raises(UsageFault, match=r"my\.key is in use"):
            stack.enter_context(held_identity("client", key))
    with held_identity("client", key) as second:
        assert second.peer_id == first.peer_id


def test_default_keys_run_out_with_a_message(tmp_path):
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    with ExitStack() as stack:
        for _ in range(MAX_KEYS):
            stack.enter_context(held_identity("worker", None, environment))
        with pytest.raises(UsageFault, match="--key"):
            stack.enter_context(held_identity("worker", None, environment))


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    key = tmp_path / "my.key"
    program = (
        "import sys, pathlib; from swarm.cli.keys import held_identity\n"
        "with held_identity('worker', pathlib.Path(sys.argv[1])) as identity: print(identity.peer_id, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(key)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        peer = process.stdout.readline().strip()
        with pytest.raises(UsageFault, match="in use"), held_identity("worker", key):
            pass
        process.kill()
    with held_identity("worker", key) as identity:
        assert str(identity.peer_id) == peer


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageFault, match=r"my\.key\.lock"), held_identity("worker", tmp_path / "my.key"):
        pass


def test_a_key_that_lies_where_nothing_can_be_created_is_used_and_held(tmp_path, monkeypatch):
    key = tmp_path / "my.key"
    with held_identity("worker", key) as identity:
        peer = identity.peer_id
    create = os.open

    def read_only(path, flags, *mode):
        if str(path).endswith(".lock"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return create(path, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)
    with held_identity("worker", key) as identity:
        assert identity.peer_id == peer
        with pytest.raises(UsageFault, match="in use"), held_identity("worker", key):
            pass


def test_a_file_that_is_no_key_is_named(tmp_path):
    (tmp_path / "my.key").write_text("not a key")
    with (
        pytest.raises(UsageFault, match=r"my\.key is no key file of a peer"),
        held_identity("worker", tmp_path / "my.key"),
    ):
        pass
