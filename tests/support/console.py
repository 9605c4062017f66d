"""The console in a browser, over a swarm in this process; what the page complains about fails the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from support.chromium import Chromium, Page
from support.gateway import DEMO, MODEL, Served, serving
from support.swarm import LocalSwarm

from swarm.client import Client
from swarm.routing.cost import Measurement

TWICE = ((0, 8), (0, 10), (8, 16), (8, 18), (16, 24), (18, 24))
PROMPT = "a function that adds two numbers"
ENDLESS = 1500  # tokens: the demo's likeliest answers are longer than any test looks on
ANSWER = "[...document.querySelectorAll('.answer .text')].at(-1)"


@asynccontextmanager
async def console(served: Served, *, expected: str = "", **looks: Any) -> AsyncIterator[Page]:
    """The page of a gateway. `expected` stands in the complaints that are meant to come, such as a status."""
    async with Chromium() as browser, browser.page(**looks) as page:
        await page.open(served.url)
        yield page
        assert [each for each in page.problems if not expected or expected not in each] == []


@asynccontextmanager
async def watched(
    spans: Sequence[tuple[int, int]] = TWICE, *, swarm_options: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[LocalSwarm, Served, Page]]:
    """A swarm, its gateway, and its console once it shows every worker."""
    async with (
        LocalSwarm(DEMO, spans, precision="bf16", name=MODEL, **(swarm_options or {})) as swarm,
        serving(lambda path: swarm.client(model=path), directory=swarm.records) as served,
    ):
        await furnish(swarm, served)
        async with console(served, **options) as page:
            await page.until(f"document.querySelectorAll('.row').length === {len(spans)}")
            yield swarm, served, page


async def furnish(swarm: LocalSwarm, served: Served) -> None:
    """Machines of different kinds, at different distances."""
    client = await served.gateway.catalog.client(MODEL)
    assert client.peers is not None
    for number, worker in enumerate(swarm.workers):
        total = (16, 24, 48)[number % 3] << 30
        worker.announce(
            memory_total=total,
            memory_free=total * (2 + number) // 12,
            tokens_per_second=60.0 + 9 * number,
            cache_tokens_free=4096 * (number + 2),
        )
        client.peers.measurements[worker.peer_id] = Measurement(0.004 + 0.011 * number)


async def greedily(page: Page, tokens: int = ENDLESS) -> None:
    """Ask for the likeliest words from now on, and so many."""
    for field, value in (("temperature", 0), ("most", tokens)):
        await page.value(f"document.getElementById('{field}').value = '{value}'")


async def ask(page: Page, text: str = PROMPT) -> None:
    await page.value("document.getElementById('question').focus()")
    await page.type(text)
    await page.press("Enter")


async def writing(page: Page, characters: int = 1) -> None:
    """Wait until so much of an answer is there."""
    await page.until(f"({ANSWER}?.textContent.length ?? 0) >= {characters}")


async def answered(page: Page) -> str:
    """Wait for the last answer's end; what it would copy, which is what the page shows."""
    await page.until("!document.querySelector('.growing') && !!document.querySelector('.answer:last-of-type .copy')")
    await page.value("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    await page.click(".answer:last-of-type .copy")
    copied = str(await page.until("window.copied"))
    shown = str(await page.value(f"{ANSWER}.textContent"))
    assert shown.rstrip() == copied.rstrip()
    return copied


async def unsplit(tokens: int, messages: Sequence[dict[str, str]] | None = None) -> str:
    """What the model says in one piece."""
    async with Client(DEMO, local=True) as client:
        return await client.generate(messages or [{"role": "user", "content": PROMPT}], max_tokens=tokens).read()
