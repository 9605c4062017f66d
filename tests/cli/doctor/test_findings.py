"""What is looked at on this machine is called good or bad, and what is bad says what to do."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from swarm.cli.doctor import findings, machine
from swarm.cli.doctor.findings import Finding
from swarm.cli.keys import held_identity
from swarm.identity import Identity
from swarm.wire.messages import DialledBack

OWN = ["127.0.0.1", "198.51.100.7", "10.0.0.7"]


def test_a_clock_that_is_off_is_told_by_how_much_and_which_way() -> None:
    assert findings.clock(1.9).good
    assert "3600 s behind the swarm's" in findings.clock(3600.0).text
    late = findings.clock(-60.0)
    assert (late.good, "60 s ahead of the swarm's" in late.text, "NTP" in late.text) == (False, True, True)


@pytest.mark.parametrize(
    ("given", "good", "text"),
    [
        ({"mode": None}, True, "does not exist yet"),
        ({"mode": stat.S_IFREG | 0o600}, True, "k is peer 12345678, readable by its owner alone"),
        ({"mode": stat.S_IFREG | 0o600, "used": True}, True, "in use by a process here"),
        ({"mode": stat.S_IFREG | 0o640}, False, "(mode 0640): chmod 600 k"),
        ({"mode": stat.S_IFREG | 0o600, "own": False}, False, "belongs to another user"),
        ({"mode": stat.S_IFREG | 0o600, "error": "k is no key file"}, False, "k is no key file"),
    ],
)
def test_a_key_that_others_may_read_is_bad(given: dict[str, object], good: bool, text: str) -> None:
    found = findings.key("k", **{"own": True, "used": False, "peer": "12345678", **given})  # type: ignore[arg-type]
    assert found.good is good
    assert text in found.text


def test_a_taken_port_is_bad_unless_the_node_of_this_key_has_it() -> None:
    taken = {("TCP", 7700): "Address already in use", ("UDP", 7700): ""}
    for mine, good in (((), False), ((7710, 7711), False), ((7700, 7701), True), (None, None)):
        assert [each.good for each in findings.ports(taken, mine)] == [good, True]
    assert "--port" in findings.ports(taken, ())[0].text


def outside(said: DialledBack | str) -> list[Finding]:
    return findings.outside({"a.example port 7700": said}, OWN, 7700, 7701)


def test_whoever_is_not_reached_is_told_where_the_wall_stands() -> None:
    assert [each.good for each in outside(DialledBack("198.51.100.7", "", True))] == [True, True]
    shut, silent = outside(DialledBack("198.51.100.7", "it did not answer", False))
    assert (shut.good, silent.good) == (False, False)
    assert (
        "its own address, and does not reach TCP 7700: it did not answer. Let the firewall pass TCP and UDP 7700"
        in shut.text
    )
    assert silent.text.endswith("Let the firewall pass UDP 7701")
    behind, _ = outside(DialledBack("203.0.113.9", "it did not answer", True))
    assert "Have the router pass TCP and UDP 7700 on to this machine, and say --public-host 203.0.113.9" in behind.text
    assert [each.good for each in outside("it speaks another version")] == [None]
    assert findings.outside({}, OWN, 7700, 7701)[0].good is None


def test_too_little_memory_or_disk_is_bad() -> None:
    gib = findings.GIB
    assert [findings.memory(free, 8 * gib).good for free in (gib, gib - 1)] == [True, False]
    assert [findings.disk("/d", *given).good for given in ((gib, True), (gib - 1, True), (gib, False))] == [
        True,
        False,
        False,
    ]


def test_the_key_and_the_ports_of_this_machine_are_seen_as_they_are(tmp_path: Path) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    assert "does not exist yet" in machine.OwnKey(None, environment).finding().text
    assert not (tmp_path / "swarm").exists()  # to look makes nothing
    with held_identity("worker", None, environment) as identity:
        held = machine.OwnKey(None, environment)
        assert (held.used, held.identity.peer_id) == (True, identity.peer_id)
    path = tmp_path / "swarm" / "worker.key"
    path.chmod(0o644)
    assert machine.OwnKey(path, environment).finding().good is False
    path.write_text("no key")
    assert "is no key file" in machine.OwnKey(path, environment).finding().text
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = machine.taken_ports("127.0.0.1", port, 0)
        assert ports == {("TCP", port): "Address already in use", ("UDP", port): "", ("UDP", 0): ""}
    assert [each.what for each in machine.room(environment)] == ["memory", "disk"]
    assert isinstance(held.identity, Identity)
