import asyncio
import contextlib

import pytest

from swarm.transport.tls.dial import ATTEMPTS, dial


@contextlib.asynccontextmanager
async def listening(arrived):
    """A server that notes who comes and goes; its port."""
    loop = asyncio.get_running_loop()

    class Guest(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            arrived.append(transport)

        def connection_lost(self, error):
            arrived.remove(self.transport)

    server = await loop.create_server(Guest, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def unanswered(monkeypatch, lost):
    """The first so many attempts hang, as when their SYN is lost. What was asked is noted."""
    loop = asyncio.get_running_loop()
    connect, asked = loop.create_connection, []

    async def unlucky(*arguments, **options):
        asked.append(arguments)
        if len(asked) <= lost:
            await asyncio.Event().wait()
        return await connect(*arguments, **options)

    monkeypatch.setattr(loop, "create_connection", unlucky)
    return asked


@pytest.mark.parametrize("lost", range(ATTEMPTS))
def test_what_is_not_answered_is_begun_anew(lost, monkeypatch):
    monkeypatch.setattr("swarm.transport.tls.dial.AGAIN_SECONDS", 0.02)

    async def main():
        arrived = []
        async with listening(arrived) as port, asyncio.timeout(20):
            asked = unanswered(monkeypatch, lost)
            transport = await dial(asyncio.Protocol, "127.0.0.1", port)
            assert len(asked) >= lost + 1
            transport.abort()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_of_several_that_come_through_one_is_kept(monkeypatch):
    monkeypatch.setattr("swarm.transport.tls.dial.AGAIN_SECONDS", 0.0)

    async def main():
        arrived = []
        async with listening(arrived) as port, asyncio.timeout(20):
            transport = await dial(asyncio.Protocol, "127.0.0.1", port)
            while len(arrived) != 1:  # noqa: ASYNC110  # the dropped ones are told by the kernel
                await asyncio.sleep(0.01)
            assert arrived[0].get_extra_info("peername") == transport.get_extra_info("sockname")
            transport.abort()

    asyncio.run(main())


def test_a_refusal_is_told_at_once_and_giving_up_leaves_nothing_behind(monkeypatch):
    async def main():
        async with listening([]) as port:
            pass
        with pytest.raises(ConnectionRefusedError):
            await dial(asyncio.Protocol, "127.0.0.1", port)
        monkeypatch.setattr("swarm.transport.tls.dial.AGAIN_SECONDS", 0.0)
        asked = unanswered(monkeypatch, ATTEMPTS)
        trying = asyncio.create_task(dial(asyncio.Protocol, "127.0.0.1", port))
        async with asyncio.timeout(20):
            while len(asked) < ATTEMPTS:  # noqa: ASYNC110
                await asyncio.sleep(0)
        trying.cancel()
        await asyncio.wait({trying})
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(asked) == ATTEMPTS

    asyncio.run(main())
