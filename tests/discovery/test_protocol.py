import asyncio

import pytest
from kademlia.node import Node
from support.announcements import MODEL, announcement, identity
from support.clock import run_virtual
from support.dht import PORT, Dht

from swarm.discovery import packets
from swarm.discovery.keys import PUBLIC, node_id
from swarm.discovery.packets import MAX_DATAGRAM, Method, Request
from swarm.discovery.protocol import ANYBODY, MAX_ERRANDS, MAX_TIMEOUT

LOW = PUBLIC.keys_of_model(MODEL)[0]


class Raw:
    """A bare socket on the switch that keeps what it gets."""

    def __init__(self, dht, host="10.9.9.9"):
        self.dht, self.endpoint, self.got = dht, (host, PORT), []
        dht.switch.sockets[self.endpoint] = self
        self.receiver = self

    def received(self, data, source):
        self.got.append((data, source))

    def send(self, data, to):
        self.dht.switch.carry(data, self.endpoint, to)


def protocol(directory):
    return directory._server.protocol


def ask(method, *arguments, sender=b"", token=b"", nonce=b"n" * 20):
    return packets.pack_request(Request(nonce, method, sender, token, arguments))


def test_only_who_answered_with_a_signature_is_listed():
    async def main():
        async with Dht() as dht:
            node = await dht.start()
            raw = Raw(dht)
            claimed = node_id(identity(5).peer_id)
            raw.send(ask(Method.PING, sender=claimed), (node.host, PORT))
            await asyncio.sleep(1)
            assert len(raw.got) == 1  # just the answer: its address is not proven, so nobody is asked for its signature
            token = packets.parse_response(raw.got.pop()[0]).token
            raw.send(ask(Method.PING, sender=claimed, token=token), (node.host, PORT))
            await asyncio.sleep(5)
            kinds = sorted(packets.kind_and_nonce(data)[0] for data, _ in raw.got)
            assert kinds == [False, True, True]  # the answer, then a ping and its repetition, which it does not answer
            assert node.contacts == 0

    run_virtual(main())


def test_a_token_is_good_at_its_own_address_only_and_for_a_while():
    async def main():
        async with Dht() as dht:
            node = await dht.start()
            raw, thief = Raw(dht), Raw(dht, "10.9.9.8")

            async def store(sock, token, number):
                signed = announcement(identity(number), now=dht.now())
                sock.send(ask(Method.STORE, LOW, signed.raw, token=token), (node.host, PORT))
                await asyncio.sleep(1)
                return packets.parse_response(sock.got.pop()[0]).answer == [1]

            raw.send(ask(Method.PING), (node.host, PORT))
            await asyncio.sleep(1)
            token = packets.parse_response(raw.got.pop()[0]).token
            assert not await store(raw, b"", 1)
            assert not await store(thief, token, 1)
            assert await store(raw, token, 1)
            await asyncio.sleep(200)
            assert await store(raw, token, 2)
            await asyncio.sleep(600)
            assert not await store(raw, token, 3)

    run_virtual(main())


def test_responses_are_never_longer_than_three_times_their_requests():
    async def main():
        async with Dht() as dht:
            await dht.grow(12)
            for number in range(60):
                await dht.nodes[0].announce(announcement(identity(100 + number), now=dht.now()))
            raw = Raw(dht)
            for node in dht.nodes:
                for request in (
                    ask(Method.FIND, LOW, 1),
                    ask(Method.PAGE, PUBLIC.index, bytes(20), b"\xff" * 20),
                    ask(Method.PING),
                ):
                    raw.send(request, (node.host, PORT))
                    await asyncio.sleep(1)
                    ((data, _),) = raw.got
                    assert len(data) <= min(3 * len(request), MAX_DATAGRAM)
                    raw.got.clear()

    run_virtual(main())


def test_an_answer_counts_only_from_the_asked_peer_at_the_asked_address():
    async def main():
        async with Dht() as dht:
            node = await dht.start()
            raw, elsewhere = Raw(dht), Raw(dht, "10.9.9.8")

            async def reply(sock, who, change=lambda data: data, wanted=1):
                node_wanted = node_id(identity(wanted).peer_id) if wanted else ANYBODY
                asking = asyncio.ensure_future(protocol(node).call(raw.endpoint, node_wanted, Method.PING, tries=1))
                await asyncio.sleep(0.05)
                nonce = packets.kind_and_nonce(raw.got.pop()[0])[1]
                answer = packets.pack_response(nonce, identity(who), b"t" * 8, (node.host, PORT), 0, 0.0, [])
                sock.send(change(answer), (node.host, PORT))
                return await asking

            assert await reply(raw, 1) is not None
            assert (await reply(raw, 2, wanted=None)).peer_id == identity(2).peer_id
            assert await reply(raw, 2) is None
            assert await reply(elsewhere, 1) is None
            assert await reply(raw, 1, change=lambda data: data[:-1] + b"\x91") is None
            assert await reply(raw, 1, change=lambda data: data[:40] + bytes(8) + data[48:]) is None

    run_virtual(main())


def test_a_lost_request_is_sent_once_more():
    async def main():
        async with Dht() as dht:
            one, other = await dht.grow(2)
            drops = iter([True, False, False, False])
            carry = dht.switch.carry
            dht.switch.carry = lambda data, source, to: None if next(drops, False) else carry(data, source, to)
            began = dht.now()
            answer = await protocol(one).call((other.host, PORT), ANYBODY, Method.PING)
            assert answer is not None
            assert dht.now() - began < MAX_TIMEOUT

    run_virtual(main())


def test_a_dead_node_is_given_up_within_about_a_second():
    async def main():
        async with Dht() as dht:
            one, other = await dht.grow(2)
            dht.switch.kill(other.host)
            began = dht.now()
            assert await protocol(one).call((other.host, PORT), ANYBODY, Method.PING) is None
            assert dht.now() - began < 1.2

    run_virtual(main())


def test_passive_nodes_are_listed_nowhere_and_answer_nothing():
    async def main():
        async with Dht() as dht:
            await dht.grow(4)
            client = await dht.client()
            await client.lookup(MODEL)
            await client.lookup_all()
            await asyncio.sleep(200)
            for node in dht.nodes:
                assert protocol(node).router.contact(node_id(client.identity.peer_id)) is None
                assert node.contacts == 3
            raw = Raw(dht)
            raw.send(ask(Method.FIND, LOW, 1), (client.host, PORT))
            await asyncio.sleep(1)
            assert raw.got == []

    run_virtual(main())


def test_nobody_far_from_a_key_stores_it():
    async def main():
        async with Dht() as dht:
            await dht.grow(40)
            signed = announcement(identity(1), now=dht.now())
            assert await dht.nodes[0].announce(signed) == 8
            holders = [node for node in dht.nodes[1:] if node.page(LOW, 0)[0]]
            assert 7 <= len(holders) <= 9
            raw = Raw(dht)
            far = max(dht.nodes, key=lambda node: node._server.node.long_id ^ Node(LOW).long_id)
            raw.send(ask(Method.PING), (far.host, PORT))
            await asyncio.sleep(1)
            token = packets.parse_response(raw.got.pop()[0]).token
            raw.send(ask(Method.STORE, LOW, signed.raw, token=token), (far.host, PORT))
            await asyncio.sleep(1)
            assert packets.parse_response(raw.got.pop()[0]).answer == [0]

    run_virtual(main())


def test_introductions_are_bounded():
    async def main():
        async with Dht() as dht:
            node = await dht.start()
            raws = [Raw(dht, f"10.8.0.{number}") for number in range(3 * MAX_ERRANDS)]
            for raw in raws:
                raw.send(ask(Method.PING), (node.host, PORT))
            await asyncio.sleep(1)
            for number, raw in enumerate(raws):
                token = packets.parse_response(raw.got.pop()[0]).token
                raw.send(ask(Method.PING, sender=node_id(identity(number).peer_id), token=token), (node.host, PORT))
            await asyncio.sleep(0.1)
            assert len(protocol(node)._tasks) == MAX_ERRANDS
            await asyncio.sleep(5)
            assert not protocol(node)._tasks
            assert not protocol(node)._errands

    run_virtual(main())


def test_a_mistyped_method_is_no_remote_call_and_the_packages_own_are_refused():
    async def main():
        async with Dht() as dht:
            node = await dht.start()
            with pytest.raises(AttributeError):
                _ = protocol(node).pnig
            for name in ("get", "set", "set_digest", "save_state", "load_state", "save_state_regularly"):
                with pytest.raises(TypeError):
                    getattr(node._server, name)("x")

    run_virtual(main())
