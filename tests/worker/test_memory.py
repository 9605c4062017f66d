"""A worker that lacks memory: the session that asks for it is told to wait or go elsewhere, and no other notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm, LocalWorker

from swarm.client import Client, Options
from swarm.config import ChannelConfig
from swarm.engine.caches.kv_cache import SessionCache
from swarm.engine.compute_thread import lacks_memory
from swarm.errors import Overloaded
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.transport.memory_trim import MemoryTrim
from swarm.wire.messages import Forward, Open, Result
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

HIDDEN = 64
CHUNK = 60  # rows; a page of the cache has 64
IMPOSSIBLE = 1 << 60
PROMPT, OPTIONS = list(range(4, 60)), Options(max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), hidden_size=HIDDEN, tokenizer=True)


def as_torch_fails(*given: object) -> torch.Tensor:
    return torch.empty(IMPOSSIBLE, dtype=torch.uint8)


def as_python_fails(*given: object) -> torch.Tensor:
    raise MemoryError


def as_cuda_fails(*given: object) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@contextmanager
def without_memory(cache: SessionCache, failing: Callable[..., torch.Tensor]) -> Iterator[None]:
    cache._allocate = failing  # type: ignore[method-assign]
    try:
        yield
    finally:
        del cache._allocate  # type: ignore[method-assign]


class Peer:
    """A session by hand, whose rows are the same in every run."""

    def __init__(self, channel: Channel, name: bytes, worker: LocalWorker) -> None:
        self.channel, self.name, self.worker = channel, name, worker
        self.position = self.step = 0

    async def ask(self, rows: int, kind: Rows) -> bytes:
        """The answer's bits."""
        data = torch.sin(torch.arange(rows * HIDDEN) + self.position + self.name[0]).numpy().tobytes()
        tensor = Tensor("fp32", (rows, HIDDEN), memoryview(data))
        result = await self.channel.request(Forward(self.name, self.step, self.position, kind, tensor))
        assert isinstance(result, Result)
        self.step += 1
        self.position += rows
        return bytes(result.tensor.data)

    @property
    def cache(self) -> SessionCache:
        return next(slot.cache for slot in self.worker.service._sessions if slot.session_id == self.name)  # type: ignore[return-value]


async def opened(swarm: LocalSwarm, number: int) -> Peer:
    identity, worker = Identity.from_seed(bytes([number]) * 32), swarm.workers[0]
    channel = await dial(swarm.hub.node(identity.peer_id), (worker.address,), worker.peer_id, ChannelConfig())
    name = bytes([number]) * 16
    await channel.request(Open(name, swarm.model.digest, LayerSpan(0, 4), "fp32", 200))
    return Peer(channel, name, worker)


async def answer(client: Client) -> list[int]:
    """The tokens of a prompt."""
    return [token.id async for token in client.generate(PROMPT, options=OPTIONS)]


@pytest.mark.parametrize("failing", [as_torch_fails, as_python_fails, as_cuda_fails])
def test_one_session_that_cannot_grow_is_overloaded_and_its_neighbours_are_exact(
    model: Path, failing: Callable[..., torch.Tensor]
) -> None:
    async def rounds(spoil: bool) -> list[bytes]:
        """What both are answered, decoding in the same batches until the first has to grow and long after."""
        heard = []
        async with LocalSwarm(model, [(0, 4)]) as swarm:
            poor, neighbour = await opened(swarm, 1), await opened(swarm, 2)
            heard += [await peer.ask(CHUNK, Rows.CHUNK) for peer in (poor, neighbour)]
            heard.append(await neighbour.ask(20, Rows.DECODE))  # it has grown already
            for _ in range(8):
                at_limit = poor.position == 64
                if spoil and at_limit:
                    with without_memory(poor.cache, failing):
                        refused, good = await asyncio.gather(
                            poor.ask(1, Rows.DECODE), neighbour.ask(1, Rows.DECODE), return_exceptions=True
                        )
                    assert isinstance(refused, Overloaded), refused
                    assert "memory for this request cannot be had" in str(refused)
                    assert isinstance(good, bytes)
                    heard += [await poor.ask(1, Rows.DECODE), good]
                else:
                    heard += await asyncio.gather(poor.ask(1, Rows.DECODE), neighbour.ask(1, Rows.DECODE))
            for peer in (poor, neighbour):
                await peer.channel.aclose()
        return heard

    async def main() -> None:
        assert await rounds(spoil=True) == await rounds(spoil=False)

    run_virtual(main())


def test_a_prompt_goes_to_another_worker_when_one_lacks_memory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4), (0, 4)]) as swarm, swarm.client() as client:
            calm = await answer(client)
            allocate = SessionCache._allocate
            poor, failures = swarm.workers[0].service.stage.pool, []

            def perhaps(cache: SessionCache, layer: int, capacity: int) -> torch.Tensor:
                if cache._pool is poor:
                    failures.append(capacity)
                    return as_torch_fails()
                return allocate(cache, layer, capacity)

            monkeypatch.setattr(SessionCache, "_allocate", perhaps)
            assert [await answer(client) for _ in range(3)] == [calm] * 3
            assert failures
            await swarm.freed(10)

    run_virtual(main())


def test_other_failures_are_no_lack_of_memory() -> None:
    assert not lacks_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lacks_memory(ValueError("can't allocate memory"))


def test_what_caches_took_goes_back_to_the_system(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.transport.memory_trim.TRIM_BYTES", 1)
    returns: list[int] = []

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm, swarm.client() as client:
            service = swarm.workers[0].service
            service._memory_trim = MemoryTrim(lambda: returns.append(service.stage.pool.reserved))
            answer = client.generate(PROMPT, options=OPTIONS)
            await anext(answer)
            await asyncio.sleep(2)  # the worker looks now and then
            await answer.aclose()
            service._sessions.close_all()
            await asyncio.sleep(10)
            assert returns == [0]

    run_virtual(main())
