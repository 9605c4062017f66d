"""Private swarms at the TLS level: members meet members, and everybody else is told in words why not."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from cryptography import x509
from support.links import CLIENT, WORKER, echo, forward, local

from swarm.config import ChannelConfig
from swarm.errors import NoSwarm, PeerLost
from swarm.identity import Identity
from swarm.membership import proof_of
from swarm.trace import Trace
from swarm.transport.channels.dial import dial
from swarm.transport.channels.server import ChannelServer
from swarm.transport.tls import certificates
from swarm.transport.tls.diagnosis import diagnosed
from swarm.transport.tls.network import TlsNetwork

OURS, THEIRS = b"o" * 32, b"t" * 32
CONFIG = ChannelConfig()


@contextlib.asynccontextmanager
async def serving(swarm_key, events=None):
    trace = Trace() if events is None else Trace(events.append)
    network = TlsNetwork(WORKER, trace, swarm_key=swarm_key)
    async with ChannelServer(network, "127.0.0.1", 0, echo, CONFIG, trace) as server:
        yield server


def test_members_meet_members():
    async def main():
        async with serving(OURS) as server:
            channel = await dial(TlsNetwork(CLIENT, swarm_key=OURS), [local(server.port)], WORKER.peer_id, CONFIG)
            assert (await channel.request(forward())).tensor == forward().tensor
            await channel.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("dials", "listens", "told", "listener_says"),
    [
        (None, OURS, "private swarm, and no key of it was given here", "of no private swarm"),
        (OURS, None, "of no private swarm, and a swarm key was given here", "no key of it was given here"),
        (THEIRS, OURS, "of another private swarm", "of another private swarm"),
        (OURS, THEIRS, "of another private swarm", "of another private swarm"),
    ],
    ids=["outsider dials member", "member dials outsider", "another dials member", "member dials another"],
)
def test_both_ends_refuse_the_other_swarm_in_words(dials, listens, told, listener_says, monkeypatch):
    """Each by itself: neither relies on the other's check."""

    async def main():
        events = []
        async with serving(listens, events) as server:
            network = TlsNetwork(CLIENT, swarm_key=dials)
            with pytest.raises(PeerLost, match=told) as lost:
                await dial(network, [local(server.port)], WORKER.peer_id, CONFIG)
            assert f"127.0.0.1:{server.port} is of another swarm" in str(lost.value)
            assert not server.channels
            # a dialler that checks nothing is refused all the same
            monkeypatch.setattr(network, "_swarm_key", listens)
            with pytest.raises(PeerLost):
                await dial(network, [local(server.port)], WORKER.peer_id, CONFIG)
            assert not server.channels
            assert any(listener_says in event.details.get("reason", "") for event in events)

    asyncio.run(main())


@pytest.mark.parametrize("shown", ["another's", "short", "empty"])
def test_a_proof_that_is_not_ones_own_is_worth_nothing(shown, monkeypatch):
    """A stranger has seen a member's proof, which every member shows to whoever dials."""
    proof = {"another's": proof_of(OURS, WORKER.peer_id), "short": b"x", "empty": b""}[shown]
    monkeypatch.setattr(certificates, "proof_of", lambda key, peer: proof)
    outsider = TlsNetwork(CLIENT, swarm_key=b"?" * 32)
    monkeypatch.undo()
    monkeypatch.setattr(outsider, "_swarm_key", OURS)  # it believes everything it is shown

    async def main():
        events = []
        async with serving(OURS, events) as server:
            with pytest.raises(PeerLost):
                await dial(outsider, [local(server.port)], WORKER.peer_id, CONFIG)
            assert "of another private swarm" in "".join(event.details.get("reason", "") for event in events)

    asyncio.run(main())


def test_the_secret_and_its_proofs_are_nowhere_to_be_seen():
    network = TlsNetwork(CLIENT, swarm_key=OURS)
    assert OURS.decode() not in repr(network)
    leaf = certificates._certificate(certificates._NULL_NAME, CLIENT.key.public_key(), 7, False, b"p" * 32)
    assert certificates._proof_in(x509.load_pem_x509_certificate(leaf)) == b"p" * 32
    assert proof_of(OURS, CLIENT.peer_id) != proof_of(THEIRS, CLIENT.peer_id) != proof_of(THEIRS, WORKER.peer_id)


def test_whoever_finds_no_swarm_is_told_that_it_is_private():
    async def silence():
        raise NoSwarm("no bootstrap answered")

    async def main():
        async with serving(OURS) as private, serving(None) as open_:
            outsider, member = TlsNetwork(CLIENT), TlsNetwork(Identity.generate(), swarm_key=OURS)
            with pytest.raises(NoSwarm, match=rf"127\.0\.0\.1:{private.port} is of another swarm: it is of a private"):
                await diagnosed(silence(), outsider, [("127.0.0.1", private.port)])
            with pytest.raises(NoSwarm, match="it is of no private swarm"):
                await diagnosed(silence(), member, [("127.0.0.1", open_.port)])
            for network, port in ((outsider, open_.port), (member, private.port), (outsider, 1)):
                with pytest.raises(NoSwarm, match="no bootstrap answered"):
                    await diagnosed(silence(), network, [("127.0.0.1", port)])

    asyncio.run(main())
