"""Who is convicted after a failover, by what, and who is not; what a proof proves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.audits import CONFIG, MIDDLE, First, Seen, ask, audited, by_id, kill_at, play, proof_of, reclass, turn
from support.swarm import LocalSwarm, LocalWorker

from chaos.liars import Lie
from swarm.client.audits.proof import NoProof, Proof
from swarm.errors import AuditFault
from swarm.trace import Event, Trace


def test_rows_of_the_one_it_replaced_are_not_held_against_a_worker_of_another_class(model: Path) -> None:
    """The session goes on to hold the lost worker's rows, which the replacement never computed."""

    async def act(swarm: LocalSwarm) -> None:
        lost, *others = by_id(swarm)
        turn(lost, Lie.SMALL_NOISE)  # as another class would, other bits
        for other in others:
            reclass(other)

        def kill(event: Event) -> None:
            if (event.name, event.phase, event.details.get("position")) == ("hop.forward", "started", MIDDLE):
                lost.kill()

        seen = Seen()
        async with swarm.client(Trace(kill, seen), random=First()) as client:
            answer = await ask(client)
            assert not answer.session.exact  # type: ignore[union-attr]
            await client.auditor.idle()
        assert seen.verdicts == ["equal"]  # by the rows after those, which it signed by themselves
        assert not seen.banned

    play(model, [(0, 4)] * 3, act)


def test_a_failover_that_finds_a_liar_bans_it(model: Path, tmp_path: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        lying: list[LocalWorker] = []

        def then(victim: LocalWorker) -> None:
            liar = next(worker for worker in by_id(swarm) if worker is not victim)
            turn(liar, Lie.LAST_BIT)
            lying.append(liar)

        seen, bans = Seen(), tmp_path / "bans.json"
        async with swarm.client(Trace(kill_at(swarm, MIDDLE, then), seen), random=First(), bans=bans) as client:
            answer = await ask(client)
            await client.auditor.idle()
        assert answer.session.exact  # type: ignore[union-attr]
        assert seen.banned == [lying[0].peer_id.short]
        proof_of(bans, lying[0].peer_id).check()

    play(model, [(0, 4)] * 3, act, replace(CONFIG, audit_share=0.0))


def test_a_failover_bans_nobody_on_the_word_of_one_owner(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        def then(victim: LocalWorker) -> None:
            turn(next(worker for worker in by_id(swarm) if worker is not victim), Lie.LAST_BIT)

        seen = Seen()
        async with swarm.client(Trace(kill_at(swarm, MIDDLE, then), seen), random=First()) as client:
            await ask(client)
            await client.auditor.idle()
        assert not seen.banned

    play(model, [(0, 4)] * 3, act, replace(CONFIG, audit_share=0.0, audit_private=False))


def test_a_session_that_two_contradict_ends_and_the_dead_liar_is_banned(model: Path, tmp_path: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        dead: list[LocalWorker] = []
        turn(by_id(swarm)[0], Lie.SMALL_NOISE)
        seen, bans = Seen(), tmp_path / "bans.json"
        async with swarm.client(Trace(kill_at(swarm, MIDDLE, dead.append), seen), random=First(), bans=bans) as client:
            with pytest.raises(AuditFault):
                await ask(client)
            await client.auditor.idle()
        assert dead == [by_id(swarm)[0]]
        assert seen.verdicts == ["differs"]
        assert seen.banned == [dead[0].peer_id.short]
        proof_of(bans, dead[0].peer_id).check()

    play(model, [(0, 4)] * 3, act, replace(CONFIG, audit_share=0.0))


def test_a_proof_that_was_tampered_with_convicts_nobody(model: Path, tmp_path: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        worker, _, third = by_id(swarm)
        turn(worker, Lie.LAST_BIT, moment=lambda cache, count: cache.position >= 128)
        bans = tmp_path / "bans.json"
        await audited(swarm, bans)
        proof = proof_of(bans, worker.peer_id)
        assert (proof.check().start, proof.check().stop) == (128, 140)
        liar, (one, other) = proof.liar, proof.witnesses
        (hop,) = other.hops
        inputs, outputs = other.rows
        forged = {
            "is not signed by": replace(proof, liar=replace(liar, peer_id=third.identity.generate().peer_id)),
            "two sides": replace(proof, witnesses=(one, one)),
            "signed nothing": replace(proof, liar=replace(liar, receipts=())),
            "no row that the liar signed": replace(proof, liar=replace(liar, receipts=liar.receipts[:1])),
            "class": replace(
                proof, liar=replace(liar, receipts=tuple(replace(r, numerics="x") for r in liar.receipts))
            ),
            "of other inputs": replace(proof, witnesses=(one, replace(other, rows=(outputs, outputs)))),
            "other outputs": replace(proof, witnesses=(one, replace(other, rows=(inputs, inputs)))),
            "leave a gap": replace(
                proof, witnesses=(one, replace(other, hops=(replace(hop, receipts=hop.receipts[1:]),)))
            ),
            "every boundary": replace(proof, witnesses=(one, replace(other, rows=(inputs,)))),
        }
        for words, false in forged.items():
            with pytest.raises(NoProof, match=words):
                false.check()
        with pytest.raises(NoProof, match="malformed"):
            Proof.parse({"form": "swarm-proof-1"})
        with pytest.raises(NoProof, match="its form"):
            Proof.parse({"form": "other"})

    play(model, [(0, 4)] * 3, act)
