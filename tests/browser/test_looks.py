"""How the console looks: on a phone, in dark and light, to those who want nothing to move; and pictures of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from support.chromium import Page
from support.console import TWICE, ask, greedily, watched, writing
from support.gateway import MODEL

pytestmark = pytest.mark.browser

LONG = "w" * 300
READABLE = 4.5  # contrast of text to its ground (WCAG 2.2, 1.4.3)
# Every element that shows text of its own, with less contrast than that to the nearest ground that is not transparent.
FAINT = """
(() => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgb(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, :disabled, noscript")) continue;
    const style = getComputedStyle(element);
    if (parseFloat(style.fontSize) === 0) continue;
    const [one, other] = [light(rgb(style.color)), light(ground(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < LEAST) faint.push(`${element.tagName}.${element.className}: ${element.textContent} ${contrast.toFixed(2)}`);
  }
  return faint;
})()
""".replace("LEAST", str(READABLE))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read(dark: bool) -> None:
    async def main() -> None:
        async with watched(dark=dark) as (swarm, served, page):
            assert await page.value(FAINT) == []
            grounds = await page.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
            assert (max(grounds) < 64) == dark
            await greedily(page)
            await ask(page)
            await writing(page, 20)
            (choice,) = served.gateway.generator.running.values()
            swarm.worker(choice.answer.session.chain.hops[0].peer_id.short).kill()  # type: ignore[union-attr]
            await page.until("document.querySelectorAll('#failovers li').length === 1")
            assert await page.value(FAINT) == []
            await page.press("Escape")
            await page.until("!document.querySelector('.growing')")
            assert await page.value(FAINT) == []

    asyncio.run(main())


def test_a_phone_needs_no_scrolling_sideways() -> None:
    async def main() -> None:
        async with watched(width=360, height=740, phone=True) as (_, _, page):
            assert await page.value("document.documentElement.scrollWidth") == 360
            await greedily(page, 30)
            await ask(page, LONG)
            await writing(page, 10)
            await page.value(
                f"import('/markdown.js').then(({{ Shown }}) => new Shown(document.querySelector('.user .text'))"
                f".show('`{LONG}` {LONG}\\n- {LONG}\\n```\\n{LONG}\\n```'))"
            )
            assert await page.value("document.documentElement.scrollWidth") == 360
            controls = "[...document.querySelectorAll('button, input, select, textarea, summary')]"
            within = "!each.checkVisibility() || each.getBoundingClientRect().right <= 360"
            assert await page.value(f"{controls}.every((each) => {within})")
            await page.until("!document.querySelector('.growing')")

    asyncio.run(main())


def test_things_move_only_for_those_who_want_it() -> None:
    async def main() -> None:
        async with watched() as (_, _, page):
            await greedily(page)
            await ask(page)
            await page.until("!!document.querySelector('.light[d]')")
            await writing(page, 30)
            assert await page.value("document.getAnimations().length") == 0
            await page.look(still=False)
            await page.until("document.getAnimations().some((each) => each.effect.target.matches('.light'))")
            await page.press("Escape")
            await page.until("!document.querySelector('.growing')")

    asyncio.run(main())


def test_nothing_inline_is_obeyed_and_this_test_would_hear_of_it() -> None:
    async def main() -> None:
        async with watched([(0, 24)], expected="Content Security Policy") as (_, _, page):
            assert page.problems == []
            await page.value("document.body.setAttribute('style', 'color: red')")
            await page.value(
                "document.body.append(Object.assign(document.createElement('script'), { text: 'window.ran = 1' }))"
            )
            assert await page.value("[window.ran, document.body.style.color]") == [None, ""]
            assert len(page.problems) == 2

    asyncio.run(main())


def test_a_screen_reader_hears_what_the_eye_sees() -> None:
    async def main() -> None:
        async with watched([(0, 16), (16, 24)]) as (_, _, page):
            tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
            told = {
                (node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]
            }
            assert {
                ("combobox", "Model"),
                ("textbox", "Your message"),
                ("button", "Send"),
                ("list", "Workers"),
                ("log", "Conversation"),
                ("log", "Failovers"),
                ("image", "All 24 layers held, some only once"),
                ("status", ""),
            } <= told
            rows = await page.value("[...document.querySelectorAll('.row .unseen')].map((each) => each.textContent)")
            assert [row.split(": ")[1].split(",")[:2] for row in rows] == [
                ["layers 0–15", " serving"],
                ["layers 16–23", " serving"],
            ]

    asyncio.run(main())


def test_pictures(tmp_path: Path) -> None:
    """Kept where SWARM_PICTURES says, for the README."""
    folder = Path(os.environ.get("SWARM_PICTURES") or tmp_path)

    async def main() -> None:
        async with watched((*TWICE, (4, 12)), still=False) as (swarm, served, page):
            other = asyncio.create_task(_asking(served.url, "sort a list"))
            await greedily(page)
            await ask(page, "read a file and count its words")
            await writing(page, 120)
            (choice, *_) = reversed(served.gateway.generator.running.values())
            swarm.worker(choice.answer.session.chain.hops[1].peer_id.short).kill()  # type: ignore[union-attr]
            await page.until("document.querySelectorAll('#failovers li').length >= 1")
            await writing(page, 260)
            await _picture(page, folder / "console-light.png")
            await page.look(dark=True, still=False)
            await _picture(page, folder / "console-dark.png")
            await page.look(width=360, height=740, dark=True, phone=True)
            await page.value("document.activeElement.blur(), scrollTo(0, 0)")
            await _picture(page, folder / "console-phone.png")
            other.cancel()
            await asyncio.wait({other})
            await page.press("Escape")
            await page.until("!document.querySelector('.growing')")

    asyncio.run(main())


async def _asking(url: str, text: str) -> None:
    """Another program, which reads its answer to the end."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": True, "ignore_eos": True}
    async with (
        httpx.AsyncClient(timeout=120) as http,
        http.stream("POST", f"{url}/v1/chat/completions", json=body) as answer,
    ):
        async for _ in answer.aiter_bytes():
            pass


async def _picture(page: Page, path: Path) -> None:
    picture = await page.screenshot()
    assert picture.startswith(b"\x89PNG")
    await asyncio.to_thread(path.write_bytes, picture)
