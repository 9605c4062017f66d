"""Audits of sessions that began with another's rows: liars are found, and nobody else is banned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.audits import CONFIG, OPTIONS, First, Seen, ask, by_id, kill_at, play, proof_of, turn
from support.swarm import LocalSwarm

from chaos.liars import Lie
from swarm.client import Client
from swarm.trace import Event, Trace

LONG = [(5 * index) % 250 for index in range(300)]


async def again(client: Client) -> int:
    """The rows that the same prompt did not send a second time."""
    answer = client.generate(LONG, options=OPTIONS)
    await answer.read()
    return answer.cached_tokens


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_honest_workers_are_found_equal(model: Path, precision: str) -> None:
    async def act(swarm: LocalSwarm) -> None:
        seen = Seen()
        async with swarm.client(Trace(seen), random=First()) as client:
            assert [await again(client) for _ in range(3)] == [0, 299, 299]
            await client.auditor.idle()
        assert seen.verdicts == ["equal"] * 3
        assert not seen.banned

    play(model, [(0, 4)] * 3, act, precision=precision)


@pytest.mark.parametrize("position", [299, 300, 310])
def test_who_lies_only_in_sessions_that_began_with_others_rows_is_banned(
    model: Path, tmp_path: Path, position: int
) -> None:
    """The proof holds too: such a session has receipts from its first row on."""

    async def act(swarm: LocalSwarm) -> None:
        seen, bans = Seen(), tmp_path / "bans.json"
        async with swarm.client(Trace(seen), random=First(), bans=bans) as client:
            first = client.generate(LONG, options=OPTIONS)
            await first.read()
            await client.auditor.idle()
            liar = swarm.worker(first.session.chain.hops[0].peer_id.short)  # type: ignore[union-attr]
            turn(liar, Lie.IDENTITY, moment=lambda cache, count: cache.position >= position)
            assert await again(client) == 299
            await client.auditor.idle()
            assert client.banned == {liar.peer_id}
            assert await again(client) == 0  # not with the liar's rows
        assert seen.verdicts[:2] == ["equal", "differs"]
        assert seen.banned == [liar.peer_id.short]
        receipt = proof_of(bans, liar.peer_id).check()
        assert receipt.start <= position < receipt.stop

    play(model, [(0, 4)] * 4, act)


def test_who_gives_other_rows_than_the_parent_s_is_banned(model: Path) -> None:
    """What it copied is not what it had computed: the rows that follow show it."""

    async def act(swarm: LocalSwarm) -> None:
        seen = Seen()
        async with swarm.client(Trace(seen), random=First()) as client:
            first = client.generate(LONG, options=OPTIONS)
            await first.read()
            await client.auditor.idle()
            liar = swarm.worker(first.session.chain.hops[0].peer_id.short)  # type: ignore[union-attr]
            honest = liar.service.stage.copy

            @torch.inference_mode()
            def forged(cache, parent, rows, layers):  # type: ignore[no-untyped-def]
                honest(cache, parent, rows, layers)
                for layer in layers:
                    cache.layer(layer)[:] += 1

            liar.service.stage.copy = forged  # type: ignore[method-assign]
            assert await again(client) == 299
            await client.auditor.idle()
        assert seen.banned == [liar.peer_id.short]

    play(model, [(0, 4)] * 4, act)


def test_a_liar_that_replaces_a_worker_of_such_a_session_is_found(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        seen, workers = Seen(), by_id(swarm)

        def others_lie(victim: object) -> None:
            liar = next(worker for worker in workers if worker is not victim)
            turn(liar, Lie.IDENTITY, moment=lambda cache, count: True)

        killer = kill_at(swarm, 301, others_lie)
        branched = False

        def listen(event: Event) -> None:
            nonlocal branched
            branched = branched or (event.name, event.phase) == ("session.branch", "complete")
            seen(event)
            if branched:
                killer(event)

        async with swarm.client(Trace(listen), random=First()) as client:
            await again(client)
            await client.auditor.idle()
            assert await again(client) == 299
            await client.auditor.idle()
            dead = [worker.peer_id for worker in workers if not worker.alive]
            assert len(dead) == 1
            assert set(client.banned) <= {worker.peer_id for worker in workers[:2]} - set(dead)
            await ask(client)

    play(model, [(0, 4)] * 4, act, CONFIG)
