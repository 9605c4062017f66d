"""What the console shows when something breaks: a worker killed while the page watches, layers that nobody holds, no gateway."""

from __future__ import annotations

import asyncio

import pytest
from support.console import answered, ask, console, greedily, unsplit, watched, writing
from support.gateway import MODEL, serving

from swarm.config import ClientConfig
from swarm.gateway.app import create_app
from swarm.gateway.http.server import HttpServer

pytestmark = pytest.mark.browser

TOKENS = 160
LIVE = "document.getElementById('link').textContent === 'live'"
WORDS = "document.getElementById('coverage-words').textContent"


def test_a_worker_killed_while_the_page_watches() -> None:
    async def main() -> None:
        async with watched(still=False) as (swarm, served, page):
            await greedily(page, TOKENS)
            await ask(page)
            await writing(page, 40)
            await page.until(
                "document.querySelectorAll('.row.busy').length >= 2 && !!document.querySelector('.chain[d]')"
            )
            (choice,) = served.gateway.generator.running.values()
            hop = choice.answer.session.chain.hops[1]  # type: ignore[union-attr]
            swarm.worker(hop.peer_id.short).kill()

            row = f"document.querySelector('.row[data-peer=\"{hop.peer_id.hex()}\"]')"
            await page.until(f"{row}.dataset.state === 'fallen'")
            assert "no answer" in await page.value(f"{row}.querySelector('.unseen').textContent")
            await page.until("document.querySelectorAll('#failovers li').length === 1")
            told = await page.text("#failovers li")
            start, stop = hop.span.start, hop.span.stop - 1
            assert f"{hop.peer_id.short} fell out of layers {start}–{stop}" in " ".join(told.split())
            assert await answered(page) == await unsplit(TOKENS)
            # The copies that are left are counted without it.
            cells = await page.value("[...document.getElementById('cells').children].map((cell) => cell.textContent)")
            alive = [worker.span for worker in swarm.workers if worker.alive]
            assert cells == [str(sum(span.start <= layer < span.stop for span in alive)) for layer in range(24)]

    asyncio.run(main())


def test_a_worker_that_fell_is_shown_so_until_it_announces_itself_again() -> None:
    async def main() -> None:
        async with watched() as (swarm, served, page):
            await greedily(page)
            await ask(page)
            await writing(page, 20)
            (choice,) = served.gateway.generator.running.values()
            worker = swarm.worker(choice.answer.session.chain.hops[1].peer_id.short)  # type: ignore[union-attr]
            worker.kill()
            await page.until("document.querySelectorAll('#failovers li').length === 1")
            row = f"document.querySelector('.row[data-peer=\"{worker.peer_id.hex()}\"]')"
            client = await served.gateway.catalog.client(MODEL)
            assert client.peers is not None
            client.peers._suspicions.clear()  # as they end by themselves, sooner than a record does
            await page.press("Escape")
            await page.until("document.querySelectorAll('#sessions li').length === 0")
            assert await page.value(f"{row}.dataset.state") == "fallen"
            old = swarm.records.records[worker.peer_id].record
            renewed = old.again(old.sequence + 1, old.expires_at + 20)
            swarm.records.records[worker.peer_id] = renewed.sign(worker.identity)
            swarm.workers[0].announce(tokens_per_second=1.0)  # something that lasts has changed
            await page.until(f"{row}.dataset.state === 'serving'")

    asyncio.run(main())


def test_missing_layers_are_named_and_an_answer_comes_once_they_are_there() -> None:
    async def main() -> None:
        options = {"client_config": ClientConfig(open_seconds=0.3)}
        async with watched([(0, 8), (16, 24)], swarm_options=options, expected="503") as (swarm, served, page):
            assert await page.value(WORDS) == "Nobody holds layers 8–15"
            assert await page.text("#model option:checked") == "demo (layers missing)"
            assert await page.value("document.querySelectorAll('#cells [data-copies=\"0\"]').length") == 8
            await greedily(page, 10)
            await ask(page)
            await page.until("!!document.querySelector('.problem')")
            assert "8-15" in await page.text(".problem p")
            await swarm.add_span(8, 16)
            await page.until(f"{WORDS} === 'All 24 layers held, some only once'")
            client = await served.gateway.catalog.client(MODEL)
            client.config = ClientConfig()  # reaching a new worker may take a busy machine longer than 0.3 s
            await page.click(".problem button")
            assert await answered(page) == await unsplit(10)
            assert await page.value("document.querySelectorAll('.answer').length") == 1

    asyncio.run(main())


def test_nobody_there_yet() -> None:
    async def main() -> None:
        async with watched([]) as (_, _, page):
            await page.until(f"{WORDS} === 'Nobody holds layers 0–23'")
            assert "swarm worker --model demo" in await page.text("#strip-empty")

    asyncio.run(main())


def test_a_gateway_that_leaves_and_comes_back() -> None:
    async def main() -> None:
        async with serving() as served:
            app = create_app(served.gateway)
            async with HttpServer(app, "127.0.0.1", 0) as first:
                served.url, port = f"http://127.0.0.1:{first.port}", first.port
                watching = console(served, expected="ERR_")
                page = await watching.__aenter__()
                await page.until(LIVE)
                await greedily(page)
            await page.until("document.getElementById('link').textContent === 'the gateway is gone: reconnecting'")
            await ask(page)
            await page.until("!!document.querySelector('.problem')")
            assert "cannot be reached" in await page.text(".problem p")
            async with HttpServer(app, "127.0.0.1", port):
                await page.until(LIVE)
                await page.click(".problem button")
                await writing(page)
                await page.press("Escape")
                await page.until("!document.querySelector('.growing')")
                await watching.__aexit__(None, None, None)

    asyncio.run(main())
