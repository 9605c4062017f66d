import asyncio

from kademlia.node import Node
from support.clock import run_virtual
from support.dht import Dht

from swarm.discovery.addresses import pack_endpoint
from swarm.discovery.crawl import MAX_ASKED, MAX_BLAME, MAX_CANDIDATES, Frontier, State, crawl
from swarm.discovery.keys import distance
from swarm.discovery.protocol import RecordProtocol

KEY = bytes(20)
K = 4


def node(number, port=1):
    """A node at distance `number` from the key."""
    return Node(number.to_bytes(20, "big"), "192.0.2.1", port)


def frontier(*numbers, patient=False):
    made = Frontier(KEY, K, own=node(999).id, patient=patient)
    for number in numbers:
        made.offer(node(number))
    return made


def asked(made, most=9):
    """Ask whom it wants asked; their candidates by number."""
    chosen = made.to_ask(most)
    for one in chosen:
        made.mark(one, State.ASKED)
    return {one.node.long_id: one for one in chosen}


def test_the_nearest_are_asked_first_and_each_once():
    made = frontier(9, 3, 5, 1, 7)
    assert list(asked(made, 2)) == [1, 3]
    assert list(asked(made)) == [5, 7]
    assert asked(made) == {}


def test_it_ends_when_the_nearest_have_answered():
    made = frontier(*range(1, 9))
    for one in asked(made).values():
        assert not made.finished()
        made.mark(one, State.ANSWERED)
    assert made.finished()
    made.offer(node(0), referrer=node(1).id)
    assert not made.finished()


def test_a_late_node_is_passed_by():
    made = frontier(*range(1, 9))
    first = asked(made)
    made.mark(first[1], State.LATE)
    assert list(asked(made)) == [5]


def test_a_late_node_is_waited_for_while_few_have_answered():
    made = frontier(1, 2)
    both = asked(made)
    made.mark(both[1], State.LATE)
    made.mark(both[2], State.ANSWERED)
    assert not made.finished()
    made.mark(both[1], State.FAILED)
    assert made.finished()


def test_a_patient_crawl_waits_for_late_nodes_among_the_nearest_only():
    for late, waits in ((1, True), (9, False)):
        made = frontier(*range(1, 6), late, patient=True)
        everybody = asked(made, 3) | asked(made)
        if late == 9:
            everybody |= {9: made._candidates[node(9).id, ("192.0.2.1", 1)]}
        for number, one in everybody.items():
            made.mark(one, State.LATE if number == late else State.ANSWERED)
        for one in asked(made).values():
            made.mark(one, State.ANSWERED)
        assert made.finished() is not waits


def test_a_lie_about_an_address_does_not_mask_the_real_one():
    made = frontier()
    made.offer(node(1, port=666), referrer=node(50).id)
    made.offer(node(1), referrer=node(51).id)
    chosen = made.to_ask(9)
    assert {one.node.port for one in chosen} == {1, 666}


def test_who_names_nodes_that_do_not_answer_is_believed_last():
    made = frontier(100)
    liar = node(100)
    made.mark(asked(made)[100], State.ANSWERED)
    for number in range(1, 20):
        made.offer(node(number), referrer=liar.id)
    made.offer(node(60), referrer=node(50).id)
    failures = 0
    while 60 not in (chosen := asked(made, 1)):
        for one in chosen.values():
            made.mark(one, State.FAILED)
            failures += 1
    assert failures == MAX_BLAME
    made.mark(chosen[60], State.ANSWERED)
    assert asked(made) == {}
    assert not made.finished()  # nobody else is left: the discredited are tried after all
    assert asked(made)


def test_it_is_bounded():
    made = frontier(*range(1, 2 * MAX_CANDIDATES))
    assert len(made._candidates) == MAX_CANDIDATES
    total = 0
    while chosen := asked(made):
        total += len(chosen)
        for one in chosen.values():
            made.mark(one, State.FAILED)
    assert total == MAX_ASKED
    assert made.to_ask(9) == []


def test_we_do_not_ask_ourselves():
    made = frontier()
    made.offer(node(999, port=7))
    assert made.to_ask(9) == []


def test_it_finds_the_very_nearest_nodes():
    async def main():
        async with Dht(seed=3) as dht:
            await dht.grow(40)
            for number in range(20):
                key = dht.random.randbytes(20)
                protocol = dht.nodes[number]._server.protocol
                start = protocol.router.closest(key, 8)
                found = await crawl(protocol, key, start, alpha=4, seconds=4)
                others = {one._server.node.id for one in dht.nodes} - {protocol.source_node.id}
                nearest = sorted(others, key=lambda one: distance(one, key))[:8]
                assert [answer.node.id for answer in found[:8]] == nearest

    run_virtual(main())


def test_nodes_of_our_own_network_are_not_taken_from_strangers_outside(monkeypatch):
    async def main():
        async with Dht(seed=4) as dht:
            await dht.start(host="8.8.8.8")
            visitor = await dht.client(host="8.8.4.4")
            asked = []

            def inside(self, sender, key, wanted):
                near = [
                    bytes(19) + b"\1" + pack_endpoint((host, 53)) for host in ("127.0.0.1", "192.168.1.1", "9.9.9.9")
                ]
                return [near, 0, b"f" * 8, []]

            monkeypatch.setattr(RecordProtocol, "rpc_find", inside)
            monkeypatch.setattr(
                dht.switch,
                "carry",
                lambda data, source, to, carry=dht.switch.carry: (asked.append(to), carry(data, source, to)),
            )
            await visitor.lookup_all()
            assert ("9.9.9.9", 53) in asked
            assert not {("127.0.0.1", 53), ("192.168.1.1", 53)} & set(asked)

    run_virtual(main())


def test_a_crawl_ends_in_time_though_nobody_answers():
    async def main():
        async with Dht(seed=5) as dht:
            await dht.grow(10)
            for other in dht.nodes[1:]:
                dht.switch.kill(other.host)
            began = asyncio.get_running_loop().time()
            protocol = dht.nodes[0]._server.protocol
            assert await crawl(protocol, KEY, list(protocol.router.contacts()), alpha=4, seconds=2.0) == []
            assert asyncio.get_running_loop().time() - began <= 2.1

    run_virtual(main())
