"""A worker for measurements: layers of a shape or a model, real process, real sockets, no directory.

`python -m swarm.bench.worker --shape llama-1b --layers 0-7` prints `ready HOST:PORT PEER WEIGHT_BYTES` and ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from swarm.bench.subject import Subject
from swarm.config import ChannelConfig
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.numerics import settle_threads
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.channels.server import ChannelServer
from swarm.transport.memory_trim import trim_memory
from swarm.transport.tls.network import TlsNetwork
from swarm.worker.neighbours import Neighbours
from swarm.worker.service import WorkerService

CACHE_BYTES = 1 << 30
HOST = "127.0.0.1"


async def serve(subject: Subject, span: LayerSpan, precision: str, numerics: str) -> None:
    identity = Identity.generate()
    async with ComputeThread() as compute:
        stage = await compute.run(lambda: subject.stage(span, precision, numerics, CACHE_BYTES))
        trim_memory()
        network = TlsNetwork(identity)
        async with (
            Neighbours(network, ChannelConfig(), Trace()) as neighbours,
            WorkerService(stage, subject.ref, compute, identity, neighbours=neighbours) as service,
            ChannelServer(
                network,
                HOST,
                0,
                service.handle,
                ChannelConfig(),
                Trace(),
                on_close=lambda channel: service.connection_lost(channel.peer_id),
                load=service.load,
                on_push=lambda channel, push: service.push(push, channel.peer_id),
            ) as server,
        ):
            click.echo(f"ready {HOST}:{server.port} {identity.peer_id} {stage.weight_bytes}")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.read)


@click.command()
@click.option("--shape", "name")
@click.option("--model", type=click.Path(path_type=Path))
@click.option("--layers", required=True)
@click.option("--precision", default="bf16")
@click.option("--numerics", default="native")
@click.option("--threads", type=int, required=True)
def main(name: str | None, model: Path | None, layers: str, precision: str, numerics: str, threads: int) -> None:
    settle_threads(threads)
    subject = Subject.of_model(model) if model is not None else Subject.of_shape(name or "")
    asyncio.run(serve(subject, LayerSpan.parse(layers), precision, numerics))


if __name__ == "__main__":
    main()
