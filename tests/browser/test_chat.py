"""The chat in a browser: asking, stopping, going on, the keyboard alone, an API key."""

from __future__ import annotations

import asyncio

import pytest
from support.console import PROMPT, answered, ask, console, greedily, unsplit, watched, writing
from support.gateway import serving

pytestmark = pytest.mark.browser

FOCUSED = "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"


def test_an_answer_and_one_that_knows_of_it() -> None:
    async def main() -> None:
        async with watched() as (_, _, page):
            await page.click("details.options summary")
            for field, value in (("#temperature", "0"), ("#most", "40")):
                await page.click(field)
                await page.type(value)
            await ask(page)
            first = await answered(page)
            assert first == await unsplit(40)
            assert "40 tokens" in await page.text(".answer .facts")
            await page.value("delete window.copied")
            await ask(page, "and one that subtracts")
            await page.until("document.querySelectorAll('.answer').length === 2")
            said = [(PROMPT, first), ("and one that subtracts", "")]
            messages = [{"role": "user", "content": said[0][0]}, {"role": "assistant", "content": first}]
            assert await answered(page) == await unsplit(40, [*messages, {"role": "user", "content": said[1][0]}])
            await page.click("#anew")
            assert await page.value("document.querySelectorAll('.turn').length") == 0

    asyncio.run(main())


def test_a_stopped_answer_stays_and_the_workers_are_free() -> None:
    async def main() -> None:
        async with watched() as (swarm, served, page):
            await greedily(page)
            await ask(page)
            await writing(page, 20)
            assert await page.value("document.getElementById('send').hidden")
            await page.until("document.querySelectorAll('#sessions li').length === 1")
            # once the workers have reached each other
            await page.until("/^[0-9a-f]{8}( → [0-9a-f]{8})+$/.test(document.querySelector('.through').textContent)")
            await page.click("#stop")
            await asyncio.wait_for(served.gateway.generator.idle(), 30)
            await page.until("document.querySelector('.answer .facts').textContent === 'stopped'")
            assert await page.value(FOCUSED) == "question"
            assert (await unsplit(200)).startswith((await answered(page))[:40])
            await swarm.freed(30)
            await page.until("document.querySelectorAll('#sessions li').length === 0")

    asyncio.run(main())


def test_what_people_and_models_write_is_text() -> None:
    async def main() -> None:
        async with watched([(0, 24)]) as (_, _, page):
            await greedily(page, 3)
            await ask(page, "<img src=x onerror=alert(1)> **no**")
            assert await page.text(".user .text") == "<img src=x onerror=alert(1)> **no**"
            assert await page.value("document.querySelectorAll('#said img, #said strong').length") == 0
            await page.value(
                "import('/markdown.js').then(({ Shown }) => new Shown(document.querySelector('.user .text'))"
                ".show('<b>a</b> **c**\\n\\n```html\\n<script>1</script>\\n```'))"
            )
            assert await page.value("document.querySelectorAll('#said b, #said script').length") == 0
            assert await page.text(".user pre") == "<script>1</script>"
            assert await page.text(".user strong") == "c"
            await page.until("!document.querySelector('.growing')")

    asyncio.run(main())


def test_the_keyboard_is_enough() -> None:
    async def main() -> None:
        async with watched() as (_, served, page):
            await greedily(page)
            await page.press("Tab")
            assert await page.value(FOCUSED) == "skip"
            await page.press("Enter")
            assert await page.value(FOCUSED) == "question"
            await page.type("one line")
            await page.press("Enter", shift=True)
            await page.type("another")
            assert await page.value("document.getElementById('question').value") == "one line\nanother"
            await page.press("Enter")
            await writing(page)
            assert await page.value("document.getElementById('question').value") == ""
            assert await page.text(".user .text") == "one line\nanother"
            await page.press("Escape")
            await asyncio.wait_for(served.gateway.generator.idle(), 30)
            await page.until("!!document.querySelector('.copy')")
            assert await page.text(".answer .facts") == "stopped"

            await page.value("document.activeElement.blur(), window.getSelection().removeAllRanges(), scrollTo(0, 0)")
            await page.value("document.querySelector('.skip').focus()")
            order = []
            for _ in range(7):
                await page.press("Tab")
                order.append(await page.value(FOCUSED))
                seen = "getComputedStyle(document.activeElement)"
                assert await page.value(f"{seen}.outlineStyle !== 'none' && parseFloat({seen}.outlineWidth) >= 2"), (
                    order
                )
            assert order == ["model", "anew", "said", "quiet copy", "question", "SUMMARY", "send"]

    asyncio.run(main())


def test_a_key_is_asked_for_and_kept_in_the_tab() -> None:
    async def main() -> None:
        async with serving(keys=("right",)) as served, console(served, expected="401") as page:
            await page.until("document.activeElement.id === 'key-text'")
            assert not await page.value("document.getElementById('main').checkVisibility()")
            await page.type("wrong")
            await page.press("Enter")
            await page.until("document.getElementById('key-why').textContent.includes('does not know that key')")
            await page.until("document.activeElement.id === 'key-text'")
            await page.type("right")
            await page.press("Enter")
            await page.until("document.getElementById('link').textContent === 'live'")
            assert "this node computes every layer" in await page.text("#strip-empty")
            await greedily(page, 5)
            await ask(page)
            assert await answered(page) == await unsplit(5)
            await page.call("Page.reload")
            await page.until("document.getElementById('link')?.textContent === 'live'")
            assert not await page.value("document.getElementById('key').checkVisibility()")

    asyncio.run(main())
