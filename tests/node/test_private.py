"""Private swarms and named peers, with real nodes in one process: members answer exactly, strangers learn nothing but why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path

import pytest
from support.models import make_model

from swarm import Client, Node
from swarm.client.generate import Options
from swarm.config import AskConfig, NodeConfig, SpanConfig
from swarm.discovery import Directory, directory
from swarm.discovery.keys import PUBLIC
from swarm.errors import NoSwarm, NotAllowed
from swarm.identity import Identity
from swarm.records import PeerState, SignedRecord
from swarm.span import LayerSpan

OURS, THEIRS = b"o" * 32, b"t" * 32
PROMPT = list(range(5, 25))
OPTIONS = Options(max_tokens=6, ignore_eos=True)
Place = tuple[str, int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer=True)


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """To reach a bootstrap; a refusal comes sooner."""
    monkeypatch.setattr(directory, "JOIN_ATTEMPTS", 1)


@cache
def unsplit(model: Path) -> list[int]:
    async def main() -> list[int]:
        async with Client(model, local=True, precision="fp32") as client:
            answer = client.generate(PROMPT, options=OPTIONS)
            await answer.read()
            return answer.token_ids

    return asyncio.run(main())


@asynccontextmanager
async def running(
    model: Path, spans: Sequence[LayerSpan], swarm_key: bytes | None = None, allow: frozenset[bytes] | None = None
) -> AsyncIterator[tuple[Place, list[Node]]]:
    """A bootstrap, and workers that serve whom they are told to."""
    async with AsyncExitStack() as stack:
        alone = NodeConfig("127.0.0.1", 0, swarm_key=swarm_key)
        nodes = [await stack.enter_async_context(Node(alone, Identity.generate()))]
        place = ("127.0.0.1", nodes[0].ports[1])
        config = NodeConfig("127.0.0.1", 0, bootstrap=(place,), swarm_key=swarm_key, allow=allow)
        for span in spans:
            serve = SpanConfig(model, span, precision="fp32", device="cpu", max_memory=64 << 20)
            nodes.append(await stack.enter_async_context(Node(config, Identity.generate(), serve=serve)))
        yield place, nodes


async def ask(model: Path, place: Place, swarm_key: bytes | None, identity: Identity | None = None) -> list[int]:
    config = NodeConfig("127.0.0.1", bootstrap=(place,), swarm_key=swarm_key)
    async with Node(config, identity or Identity.generate(), ask=AskConfig(model)) as node:
        answer = node.client.generate(PROMPT, options=OPTIONS)
        await answer.read()
        return answer.token_ids


HALVES = (LayerSpan(0, 2), LayerSpan(2, 4))


def test_a_private_swarm_answers_its_members_exactly_and_others_not_at_all(model: Path) -> None:
    expected = unsplit(model)

    async def main() -> None:
        async with running(model, HALVES, OURS) as (place, nodes):
            assert await ask(model, place, OURS) == expected
            for other, why in ((None, "it is of a private swarm, and no key"), (THEIRS, "of another private swarm")):
                with pytest.raises(NoSwarm, match=why):
                    await ask(model, place, other)
            with pytest.raises(NoSwarm, match="of another private swarm"):
                async with Client(model, bootstrap=[place], swarm_key=THEIRS):
                    pass
            assert [node._load().sessions for node in nodes] == [0, 0, 0]

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_member_in_an_open_swarm_is_told_so(model: Path) -> None:
    async def main() -> None:
        async with running(model, ()) as (place, _):
            with pytest.raises(NoSwarm, match="it is of no private swarm, and a swarm key was given here"):
                await ask(model, place, OURS)

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("other", [None, THEIRS], ids=["no key", "another key"])
def test_a_stranger_finds_no_record_and_leaves_none(model: Path, other: bytes | None) -> None:
    """Even one that does not mind being refused, and announces and looks up all the same."""

    async def main() -> None:
        async with running(model, (LayerSpan(0, 4),), OURS) as (place, nodes):
            known = [signed.record for signed in await nodes[0].directory.lookup_all()]
            assert [record.peer_id for record in known] == [nodes[1].peer_id]
            mallory = Identity.generate()
            async with Directory(mallory, host="127.0.0.1", bootstrap=[place], swarm_key=other) as strange:
                with pytest.raises(NoSwarm):
                    await strange.join()
                changes = {"peer_id": mallory.peer_id, "state": PeerState.SERVING}
                forged = known[0].again(known[0].sequence + 1, known[0].expires_at, **changes).sign(mallory)
                await strange.announce(forged)
                assert await strange.lookup(known[0].model) in ([], [forged])  # its own, kept by itself
            for node in nodes:
                assert [signed.record.peer_id for signed in await node.directory.lookup_all()] == [nodes[1].peer_id]

    asyncio.run(asyncio.wait_for(main(), 60))


def test_only_named_peers_are_served(model: Path) -> None:
    friend, other, expected = Identity.generate(), Identity.generate(), unsplit(model)

    async def main() -> None:
        async with running(model, HALVES, allow=frozenset({friend.peer_id})) as (place, nodes):
            with pytest.raises(NotAllowed, match=f"only peers named with --allow, and {other.peer_id} is none of them"):
                await ask(model, place, None, other)
            assert all(not len(node._layers.service._sessions) for node in nodes[1:] if node._layers)
            assert await ask(model, place, None, friend) == expected

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_bootstrap_keeps_records_of_named_peers_alone(model: Path) -> None:
    named, other = Identity.generate(), Identity.generate()

    async def main() -> None:
        allow = frozenset({named.peer_id})
        async with (
            Node(NodeConfig("127.0.0.1", 0, allow=allow), Identity.generate()) as bootstrap,
            AsyncExitStack() as stack,
        ):
            config = NodeConfig("127.0.0.1", 0, bootstrap=(("127.0.0.1", bootstrap.ports[1]),))
            serve = SpanConfig(model, LayerSpan(0, 4), precision="fp32", device="cpu", max_memory=64 << 20)
            for identity in (named, other):
                await stack.enter_async_context(Node(config, identity, serve=serve))
            held, _ = bootstrap.directory.page(PUBLIC.index, 0)
            assert [SignedRecord.parse(raw, time.time()).record.peer_id for raw in held] == [named.peer_id]

    asyncio.run(asyncio.wait_for(main(), 60))
