"""A node ends when it is told to, and with an error when one of its loops ends by itself."""

from __future__ import annotations

import asyncio

import pytest

from swarm.config import NodeConfig
from swarm.errors import UsageFault
from swarm.identity import Identity
from swarm.node import Node

CONFIG = NodeConfig(host="127.0.0.1", port=0)


def test_it_waits_until_it_is_told_to_stop_and_leaves_no_task() -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with Node(CONFIG, Identity.generate()) as node:
            stop = asyncio.Event()
            waiting = asyncio.create_task(node.wait(stop))
            await asyncio.sleep(0)
            assert not waiting.done()
            stop.set()
            await waiting
            await node.drain()
        assert asyncio.all_tasks() == before

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_loop_that_ends_by_itself_ends_the_node() -> None:
    async def main() -> None:
        async with Node(CONFIG, Identity.generate()) as node:
            (task,) = node.directory.tasks
            task.cancel()
            with pytest.raises(RuntimeError, match="ended"):
                await node.wait(asyncio.Event())

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_bootstrap_has_no_answers() -> None:
    with pytest.raises(UsageFault, match="asks for no answers"):
        _ = Node(CONFIG, Identity.generate()).client
