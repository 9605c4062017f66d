"""Sessions are audited afterwards: liars are found and banned with a proof, honest peers are not, and nobody is disturbed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.audits import CONFIG, OPTIONS, PROMPT, First, Seen, ask, audited, by_id, play, proof_of, turn
from support.swarm import LocalSwarm, LocalWorker

from chaos.liars import Lie, Moment, always, in_replays
from swarm.errors import NoChain, Overloaded
from swarm.span import LayerSpan
from swarm.trace import Event, Trace
from swarm.wire.messages import Close, Forward, Open, Renew


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_honest_workers_agree_bit_for_bit(model: Path, precision: str) -> None:
    async def act(swarm: LocalSwarm) -> None:
        seen = await audited(swarm)
        assert seen.verdicts == ["equal"]
        assert [event.phase for event in seen.events] == ["started", "complete"]
        assert seen.events[1].details["reason"] == "the same bits"
        assert not seen.banned

    play(model, [(0, 4)] * 2, act, precision=precision)


@pytest.mark.parametrize("kind", [kind for kind in Lie if kind not in (Lie.NAN, Lie.WRONG_SHAPE)])
def test_a_liar_is_banned_with_a_proof(model: Path, tmp_path: Path, kind: Lie) -> None:
    async def act(swarm: LocalSwarm) -> None:
        liar, *others = by_id(swarm)
        turn(liar, kind)
        bans = tmp_path / "bans.json"
        seen = await audited(swarm, bans)
        assert seen.verdicts == ["differs"]
        assert seen.banned == [liar.peer_id.short]
        proof = proof_of(bans, liar.peer_id)
        assert proof.check().verify(liar.peer_id)
        assert {party.peer_id for witness in proof.witnesses for party in witness.hops} == {w.peer_id for w in others}

        # who is banned is not chosen any more, also by the next process
        seen = Seen()
        async with swarm.client(Trace(seen), bans=bans) as client:
            answer = await ask(client)
            assert answer.session.chain.hops[0].peer_id != liar.peer_id  # type: ignore[union-attr]
            await client.auditor.idle()
        assert seen.verdicts == ["equal"]

    play(model, [(0, 4)] * 3, act)


@pytest.mark.parametrize("moment", [always, in_replays])
def test_whoever_frames_an_honest_peer_is_banned_himself(model: Path, tmp_path: Path, moment: Moment) -> None:
    async def act(swarm: LocalSwarm) -> None:
        _, liar, _ = by_id(swarm)
        turn(liar, Lie.SMALL_NOISE, moment=moment)
        bans = tmp_path / "bans.json"
        seen = await audited(swarm, bans)
        assert seen.banned == [liar.peer_id.short]
        proof_of(bans, liar.peer_id).check()

    play(model, [(0, 4)] * 3, act)


def test_of_three_that_differ_a_fourth_settles_it(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        audited_one, framer, *_ = by_id(swarm)
        turn(audited_one, Lie.SMALL_NOISE, seed=1)
        turn(framer, Lie.SMALL_NOISE, seed=2)
        seen = await audited(swarm)
        assert seen.verdicts == ["differs"]
        assert sorted(seen.banned) == sorted([audited_one.peer_id.short, framer.peer_id.short])

    play(model, [(0, 4)] * 4, act)


def test_without_a_third_both_are_only_avoided(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        liar, other = by_id(swarm)
        turn(liar, Lie.IDENTITY)
        suspected: list[str] = []

        def listen(event: Event) -> None:
            if event.name == "peers.suspect":
                suspected.append(event.details["peer"])

        seen = Seen()
        async with swarm.client(Trace(seen, listen), random=First()) as client:
            await ask(client)
            await client.auditor.idle()
            assert seen.verdicts == ["unsettled"]
            assert not seen.banned
            assert sorted(suspected) == sorted([liar.peer_id.short, other.peer_id.short])
            await ask(client)  # for want of others

    play(model, [(0, 4)] * 2, act)


def test_where_only_a_banned_peer_is_left_the_error_says_so(model: Path, tmp_path: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        liar, *others = by_id(swarm)
        turn(liar, Lie.IDENTITY)
        bans = tmp_path / "bans.json"
        await audited(swarm, bans)
        for worker in others:
            worker.kill()
            del swarm.records.records[worker.peer_id]
        async with swarm.client(bans=bans) as client:
            with pytest.raises(NoChain, match="1 banned for having lied"):
                await ask(client)

    play(model, [(0, 4)] * 3, act)


def test_a_span_is_audited_over_several_hops(model: Path, tmp_path: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        liar = swarm.workers[0]
        seen = await audited(swarm)
        assert seen.verdicts == ["equal"]
        turn(liar, Lie.LAST_BIT)
        bans = tmp_path / "bans.json"
        seen = await audited(swarm, bans)
        assert seen.banned == [liar.peer_id.short]
        assert [len(witness.hops) for witness in proof_of(bans, liar.peer_id).witnesses] == [2, 2]
        proof_of(bans, liar.peer_id).check()

    play(model, [(0, 4), *[(0, 2), (2, 4)] * 2], act)


@pytest.mark.parametrize("lying", [0, 1])
def test_of_several_hops_that_frame_a_peer_the_one_that_lied_is_found(model: Path, lying: int) -> None:
    async def act(swarm: LocalSwarm) -> None:
        whole, *halves = swarm.workers
        first, second = (sorted((w for w in halves if w.span.start == start), key=by_peer)[0] for start in (0, 2))
        liar = (first, second)[lying]
        turn(liar, Lie.IDENTITY)
        seen = Seen()
        async with swarm.client(Trace(seen), random=First()) as client:
            await ask(client)
            await client.auditor.idle()
            assert client.peers.avoided(strictly=True) == {liar.peer_id}  # and not who was asked together with it
        assert seen.banned == [liar.peer_id.short]
        assert sorted(seen.verdicts) == ["differs", "differs", "equal"]
        assert whole.peer_id.short not in seen.banned

    def by_peer(worker: LocalWorker) -> bytes:
        return worker.peer_id

    play(model, [(0, 4), *[(0, 2), (2, 4)] * 3], act)


@pytest.mark.parametrize(
    ("kind", "verdict"), [(None, "equal"), (Lie.IDENTITY, "differs"), (Lie.OTHER_WEIGHTS, "differs")]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_workers_of_another_numerics_class_are_compared_by_a_tolerance(
    model: Path, precision: str, kind: Lie | None, verdict: str
) -> None:
    async def act(swarm: LocalSwarm) -> None:
        (worker,) = swarm.workers
        if kind is not None:
            turn(worker, kind)
        for _ in range(2):
            other = await swarm.add(LayerSpan(0, 4), {"fp32": "bf16", "bf16": "fp32"}[precision])
            other.announce()
        swarm.client_config = replace(CONFIG)
        seen = Seen()
        async with swarm.client(Trace(seen), random=First(), precision=precision) as client:
            await ask(client)
            await client.auditor.idle()
        assert seen.verdicts == [verdict]
        assert seen.banned == ([worker.peer_id.short] if kind else [])
        assert "numerics classes" in seen.events[-1].details["reason"]

    play(model, [(0, 4)], act, precision=precision)


def test_private_addresses_are_one_block_unless_they_are_said_not_to_be(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        turn(by_id(swarm)[0], Lie.IDENTITY)
        seen = await audited(swarm)
        assert seen.verdicts == ["skipped"]
        assert "address block" in seen.events[-1].details["reason"]

    play(model, [(0, 4)] * 3, act, replace(CONFIG, audit_private=False))


def test_no_share_no_audit(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        assert not (await audited(swarm)).events

    play(model, [(0, 4)] * 2, act, replace(CONFIG, audit_share=0.0))


def test_a_worker_without_room_is_waited_for(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        _, full = by_id(swarm)
        refusals: list[Any] = []

        async def refuse_at_first(message: Any, exchange: Any) -> Any:
            if isinstance(message, Open | Forward) and len(refusals) < 4:
                refusals.append(message)
                if len(refusals) != 3:  # this Open is let pass, the Forward after it not
                    raise Overloaded("the test has no room for a moment")
            return await full.service.handle(message, exchange)

        full.handler = refuse_at_first
        seen = await audited(swarm)
        assert seen.verdicts == ["equal"]
        assert [type(message) for message in refusals] == [Open, Open, Open, Forward]

    play(model, [(0, 4)] * 2, act)


def test_a_worker_that_stays_full_is_nobodys_failure(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        _, full = by_id(swarm)

        async def refuse(message: Any, exchange: Any) -> Any:
            raise Overloaded("the test has no room")

        full.handler = refuse
        seen = await audited(swarm)
        assert seen.verdicts == ["skipped"]

    play(model, [(0, 4)] * 2, act, replace(CONFIG, audit_seconds=10.0))


def test_an_audit_may_take_its_time_as_long_as_it_gets_on(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        _, slow = by_id(swarm)

        async def wait(message: Any, exchange: Any) -> Any:
            if isinstance(message, Forward):
                await asyncio.sleep(4)
            return await slow.service.handle(message, exchange)

        slow.handler = wait
        began = asyncio.get_running_loop().time()
        assert (await audited(swarm)).verdicts == ["equal"]
        assert asyncio.get_running_loop().time() - began > 11

    play(model, [(0, 4)] * 2, act, replace(CONFIG, audit_seconds=6.0))


def test_one_that_dies_is_replaced_by_another(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        _, dying, _ = by_id(swarm)

        async def die(message: Any, exchange: Any) -> Any:
            dying.kill()
            return await dying.service.handle(message, exchange)

        dying.handler = die
        assert (await audited(swarm)).verdicts == ["equal"]

    play(model, [(0, 4)] * 3, act)


def test_leaving_the_client_ends_an_audit_and_frees_its_session(model: Path) -> None:
    async def act(swarm: LocalSwarm) -> None:
        _, other = by_id(swarm)
        asked = asyncio.Event()

        async def hold(message: Any, exchange: Any) -> Any:
            if isinstance(message, Forward):
                asked.set()
                await asyncio.sleep(30)
            return await other.service.handle(message, exchange)

        other.handler = hold
        loop = asyncio.get_running_loop()
        seen = Seen()
        async with swarm.client(Trace(seen), random=First()) as client:
            await ask(client)
            await asked.wait()
            before = loop.time()
        assert loop.time() - before < 2
        assert not seen.verdicts
        await swarm.freed(1)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "audit"]

    play(model, [(0, 4)] * 2, act)


def test_what_does_not_fit_is_not_kept_unless_nothing_else_is(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(swarm: LocalSwarm) -> None:
        monkeypatch.setattr("swarm.client.audits.auditor.MAX_AUDIT_BYTES", 1000)
        seen = Seen()
        async with swarm.client(Trace(seen), random=First()) as client:
            await asyncio.gather(ask(client), ask(client))
            await client.auditor.idle()
            assert sorted(seen.verdicts) == ["equal", "skipped"]
            await ask(client)
            await client.auditor.idle()
            assert sorted(seen.verdicts) == ["equal", "equal", "skipped"]

    play(model, [(0, 4)] * 2, act)


def test_rows_that_a_liar_did_not_sign_make_it_avoided(model: Path) -> None:
    """It lies about the last rows only, and ends without their receipt."""

    async def act(swarm: LocalSwarm) -> None:
        liar, *_ = by_id(swarm)
        last = len(PROMPT) + OPTIONS.max_tokens - 4  # type: ignore[operator]
        turn(liar, Lie.IDENTITY, moment=lambda cache, count: cache.position >= last)

        async def keep_quiet(message: Any, exchange: Any) -> Any:
            reply = await liar.service.handle(message, exchange)
            return replace(reply, receipt=None) if isinstance(message, Close | Renew) else reply

        liar.handler = keep_quiet
        seen = await audited(swarm)
        assert seen.verdicts == ["unsettled"]
        assert "did not sign" in seen.events[-1].details["reason"]
        assert not seen.banned

    play(model, [(0, 4)] * 3, act)
