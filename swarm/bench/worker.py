"""A worker for measurements: random weights of a shape, real process, real sockets, no directory.

`python -m swarm.bench.worker --shape llama-1b --layers 0-7` prints `ready HOST:PORT PEER` and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys

import click

from swarm.bench.shapes import shape
from swarm.config import ChannelConfig
from swarm.engine import Stage
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.numerics import settle_threads
from swarm.identity import Identity
from swarm.model.spec import ModelSpec
from swarm.records import ModelRef
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.channels.server import ChannelServer
from swarm.transport.tls.network import TlsNetwork
from swarm.worker.service import WorkerService

CACHE_BYTES = 1 << 30
HOST = "127.0.0.1"


def shape_model(name: str, layers: int) -> ModelRef:
    """What stands for a checkpoint's digest among the processes of one benchmark."""
    return ModelRef(name, name.encode().ljust(32, b"\0")[:32], layers)


async def serve(name: str, span: LayerSpan, precision: str, numerics: str) -> None:
    spec = ModelSpec.from_config(shape(name))
    identity = Identity.generate()
    async with ComputeThread() as compute:
        stage = await compute.run(
            lambda: Stage.random(spec, span, precision, cache_bytes=CACHE_BYTES, numerics=numerics)
        )
        async with (
            WorkerService(stage, shape_model(name, spec.layer_count), compute, identity) as service,
            ChannelServer(
                TlsNetwork(identity),
                HOST,
                0,
                service.handle,
                ChannelConfig(),
                Trace(),
                on_close=lambda channel: service.connection_lost(channel.peer_id),
                load=service.load,
            ) as server,
        ):
            click.echo(f"ready {HOST}:{server.port} {identity.peer_id}")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.read)


@click.command()
@click.option("--shape", "name", required=True)
@click.option("--layers", required=True)
@click.option("--precision", default="bf16")
@click.option("--numerics", default="native")
@click.option("--threads", type=int, required=True)
def main(name: str, layers: str, precision: str, numerics: str, threads: int) -> None:
    settle_threads(threads)
    asyncio.run(serve(name, LayerSpan.parse(layers), precision, numerics))


if __name__ == "__main__":
    main()
