"""A worker process for tests that stop or kill one: prints its port, echoes rows, never answers step 1."""

import asyncio

from support.links import WORKER, echo

from swarm.config import ChannelConfig
from swarm.trace import Trace
from swarm.transport import ChannelServer, TlsNetwork


async def handler(message, exchange):
    if message.step == 1:
        await asyncio.Event().wait()
    return await echo(message, exchange)


async def main():
    async with ChannelServer(TlsNetwork(WORKER), "127.0.0.1", 0, handler, ChannelConfig(), Trace()) as server:
        print(server.port, flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
