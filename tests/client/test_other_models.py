"""When the error says that the swarm's model of that name is another one, and when it must not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.announcements import MODEL, announcement, identity
from support.clock import run_virtual

from swarm.client.resolver import Resolver
from swarm.errors import NoChain, WrongModel
from swarm.records import ModelRef, SignedRecord
from swarm.trace import Trace

OTHER = replace(MODEL, digest=b"\x02" * 32)


class Board:
    """A directory of these records."""

    def __init__(self, *records: SignedRecord) -> None:
        self.records = records

    async def lookup(self, model: ModelRef) -> list[SignedRecord]:
        return [signed for signed in self.records if signed.record.model.digest == model.digest]

    async def lookup_all(self) -> list[SignedRecord]:
        return list(self.records)


class NoPeers:
    """Nobody is measured, nobody is suspected."""

    def __init__(self) -> None:
        self.measurements: dict[object, object] = {}

    async def measure(self, records: object) -> None: ...

    def faults(self) -> str:
        return ""

    def has_parted(self, record: object) -> bool:
        return False

    def avoided(self, strictly: bool) -> frozenset[bytes]:
        return frozenset()


def first_chain(precision: str, *models: ModelRef) -> None:
    """Asked for among workers of these models, which compute in bf16."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        board = Board(*(announcement(identity(1 + i), model=model) for i, model in enumerate(models)))
        resolver = Resolver(
            board,
            NoPeers(),  # type: ignore[arg-type]
            MODEL,
            now=loop.time,
            trace=Trace(),
            precision=precision,
        )
        await resolver.first_chain()

    run_virtual(main())


def test_where_only_another_model_has_the_name_both_digests_are_said() -> None:
    with pytest.raises(WrongModel, match=f"{OTHER.digest.hex()}.*{MODEL.digest.hex()}"):
        first_chain("bf16", OTHER)


@pytest.mark.parametrize("models", [(OTHER, MODEL), (MODEL, OTHER)])
def test_where_the_own_model_is_served_in_another_precision_its_layers_are_what_is_missing(
    models: tuple[ModelRef, ...],
) -> None:
    with pytest.raises(NoChain, match="layers 0-31 of tiny"):
        first_chain("fp32", *models)
