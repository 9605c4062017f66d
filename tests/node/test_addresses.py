"""Which addresses a node tells others, and in which order."""

from __future__ import annotations

import pytest

from swarm.node.addresses import Interfaces, announced, only_here, own_addresses, ranked

PORTS = (7700, 7700, 7701)
MACHINE = [
    ("lo", "127.0.0.1"),
    ("docker0", "172.17.0.1"),
    ("br-1a2b", "172.18.0.1"),
    ("tailscale0", "100.64.0.7"),
    ("eth0", "192.168.1.20"),
    ("wlan0", "192.168.1.21"),
    ("eth0", "2001:db8::20"),
    ("eth0", "fe80::1%eth0"),
    ("eth1", "169.254.3.4"),
    ("lo", "::1"),
]


def test_cards_come_first_then_tunnels_bridges_and_loopback() -> None:
    cards = ["192.168.1.20", "192.168.1.21", "2001:db8::20"]
    rest = ["100.64.0.7", "172.17.0.1", "172.18.0.1", "127.0.0.1", "::1"]
    assert ranked(MACHINE, None) == [*cards, *rest]


def test_the_default_route_counts_among_its_kind_only() -> None:
    assert ranked(MACHINE, "192.168.1.21")[:2] == ["192.168.1.21", "192.168.1.20"]
    assert ranked(MACHINE, "172.18.0.1")[0] == "192.168.1.20"
    assert ranked(MACHINE, "100.64.0.7")[0] == "192.168.1.20"


def test_without_a_route_the_cards_are_told() -> None:
    told = announced("0.0.0.0", None, None, ranked(MACHINE, None), PORTS)
    assert [address.host for address in told][:2] == ["192.168.1.20", "192.168.1.21"]


def test_it_is_known_when_nobody_else_can_come() -> None:
    assert only_here(announced("0.0.0.0", None, None, ["127.0.0.1"], PORTS))
    assert not only_here(announced("0.0.0.0", None, None, ranked(MACHINE, None), PORTS))


def test_this_machine_has_addresses() -> None:
    assert "127.0.0.1" in own_addresses()


def test_where_no_file_is_left_the_addresses_known_last_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = Interfaces()
    before = interfaces.addresses()

    def fails() -> None:
        raise OSError(24, "Too many open files", "/proc/net/dev")

    monkeypatch.setattr("psutil.net_if_stats", fails)
    assert interfaces.addresses() == before
