"""What the status says of answers, from made-up ones."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from swarm.gateway.generation.choice import Choice
from swarm.gateway.monitoring.status import session_of
from swarm.identity import PeerId
from swarm.span import LayerSpan

ONE, OTHER = PeerId(b"\1" * 32), PeerId(b"\2" * 32)


def choice_through(*hops: tuple[PeerId, LayerSpan]) -> Choice:
    chain = SimpleNamespace(hops=[SimpleNamespace(peer_id=peer, span=span) for peer, span in hops])
    timings = SimpleNamespace(tokens_per_second=lambda _: None)
    direct = (True,) * (len(hops) - 1) + (False,)
    session = SimpleNamespace(chain=chain, direct=direct, recoveries=())
    answer: Any = SimpleNamespace(session=session, timings=timings, token_ids=[1], prompt_ids=[1, 2], cached_tokens=0)
    request: Any = SimpleNamespace(model="demo", owner="")
    return cast(Choice, SimpleNamespace(id="a", answer=answer, request=request, began=0.0))


def test_a_worker_that_has_two_places_in_a_chain_is_told_with_both() -> None:
    async def main() -> None:
        told = session_of(choice_through((ONE, LayerSpan(0, 8)), (OTHER, LayerSpan(8, 16)), (ONE, LayerSpan(16, 24))))
        assert [(hop["peer"], hop["start"], hop["stop"], hop["direct"]) for hop in told["chain"]] == [
            (ONE.hex(), 0, 8, True),
            (OTHER.hex(), 8, 16, True),
            (ONE.hex(), 16, 24, False),
        ]

    asyncio.run(main())
