"""Who is asked a second time: others by address block, drawn among those whose rows can be compared."""

from __future__ import annotations

from random import Random

import pytest
from support.records import MODEL, make_record, peer

from swarm.client.audits.witnesses import PRIVATE, blocks_of, choose_witnesses, eligible
from swarm.records import Address, ModelRef, PeerState
from swarm.span import LayerSpan

WHOLE = LayerSpan(0, 10)
CLASS = "bf16/cpu/x86"


def at(*hosts: str, port: int = 7700) -> tuple[Address, ...]:
    return tuple(Address.of(host, port) for host in hosts)


@pytest.mark.parametrize("private", [True, False])
def test_public_addresses_belong_to_blocks_of_the_size_that_owners_have(private: bool) -> None:
    def block(host: str) -> frozenset[bytes]:
        return blocks_of(at(host), None, private)

    assert block("8.8.8.8") == block("8.8.8.200") != block("8.8.9.8")
    assert block("2600:1:2:3::1") == block("2600:1:2:4::1") != block("2600:1:3::1")


def test_private_addresses_say_nothing_of_owners() -> None:
    hosts = ["127.0.0.1", "127.9.9.9", "10.1.2.3", "192.168.7.7", "100.64.0.1", "::1", "fd00::1", "fe80::1"]
    assert {blocks_of(at(host), None, False) for host in hosts} == {frozenset({PRIVATE})}
    assert len({blocks_of(at(host), None, True) for host in hosts}) == len(hosts)
    assert blocks_of(at("127.0.0.1", port=1), None, True) != blocks_of(at("127.0.0.1", port=2), None, True)


def test_where_a_peer_is_connected_to_counts_more_than_what_it_announces() -> None:
    announced = at("8.8.8.8", "9.9.9.9")
    assert blocks_of(announced, None, False) == blocks_of(at("8.8.8.1"), None, False) | blocks_of(
        at("9.9.9.1"), None, False
    )
    assert blocks_of(announced, "7.7.7.7", False) == blocks_of(at("7.7.7.1"), None, False)
    assert blocks_of(announced, "10.0.0.1", False) == blocks_of(announced, None, False)


def test_only_workers_of_other_blocks_that_serve_this_model_are_asked() -> None:
    records = [
        make_record(1, "0-9", addresses=at("8.8.8.8")),
        make_record(2, "0-9", addresses=at("9.9.9.9", "8.8.8.9")),  # one foot in a block that was heard
        make_record(3, "0-9", addresses=at("9.9.9.9"), state=PeerState.DRAINING),
        make_record(4, "0-9", addresses=at("9.9.9.9"), model=ModelRef("llama-test", bytes(32), 10)),
        make_record(5, "0-9", addresses=at("9.9.9.9")),
        make_record(6, "0-9", addresses=at("9.9.9.9")),
        make_record(7, "0-9", addresses=at("9.9.9.9"), numerics="fp32/cpu"),  # contradicts its own precision
        make_record(8, "0-9", addresses=at("10.0.0.1")),
    ]
    heard = blocks_of(at("8.8.8.1"), None, False)
    found = eligible(records, MODEL, frozenset({peer(5)}), heard, False)
    assert [record.peer_id for record in found] == [peer(6), peer(8)]


def test_one_numerics_class_goes_before_one_precision_and_that_before_others() -> None:
    same = make_record(1, "0-9")
    class_mate = make_record(2, "0-9", numerics="bf16/other")
    other = make_record(3, "0-9", precision="fp32", numerics="fp32/cpu")
    unmeasured = make_record(4, "0-9", precision="int3", numerics="int3/cpu")
    everybody = [unmeasured, other, class_mate, same]

    def chosen(*records: object) -> object:
        found = choose_witnesses(records, WHOLE, CLASS, "bf16", Random(0))  # type: ignore[arg-type]
        return None if found is None else (found[0][0].peer_id, found[1])

    assert chosen(*everybody) == (peer(1), "bf16")
    assert chosen(*everybody[:3]) == (peer(2), "bf16")
    assert chosen(*everybody[:2]) == (peer(3), "fp32")
    assert chosen(unmeasured) is None
    assert chosen() is None


def test_where_nobody_holds_it_all_several_do() -> None:
    records = [make_record(1, "0-5"), make_record(2, "3-9"), make_record(3, "4-7")]
    found = choose_witnesses(records, LayerSpan(2, 9), CLASS, "bf16", Random(1))
    assert found is not None
    hops, _ = found
    assert [(hop.peer_id, hop.span) for hop in hops] == [(peer(1), LayerSpan(2, 6)), (peer(2), LayerSpan(6, 9))]
    assert choose_witnesses(records[1:], LayerSpan(2, 9), CLASS, "bf16", Random(1)) is None


def test_everybody_who_could_is_drawn_alike_whatever_he_announces() -> None:
    records = [make_record(number, "0-9", tokens_per_second=10.0**number) for number in range(1, 5)]
    random = Random(7)
    drawn = [choose_witnesses(records, WHOLE, CLASS, "bf16", random)[0][0].peer_id for _ in range(400)]  # type: ignore[index]
    assert all(70 < drawn.count(record.peer_id) < 130 for record in records)
