"""Which web pages may ask a gateway without keys, and that others cannot make it do anything."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from support.gateway import MODEL, serving

from swarm.gateway.http.auth import Keys
from swarm.gateway.http.errors import Forbidden, Unauthorised
from swarm.gateway.http.origins import check_page

HERE = "127.0.0.1:8080"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}


@pytest.mark.parametrize(
    ("headers", "origins"),
    [
        ({}, ()),  # HTTP/1.0
        ({"host": HERE}, ()),
        ({"host": "localhost"}, ()),
        ({"host": "Demo.LocalHost.:1"}, ()),
        ({"host": "[::1]:8080"}, ()),
        ({"host": HERE, "origin": f"http://{HERE}"}, ()),
        ({"host": HERE, "sec-fetch-site": "same-origin"}, ()),
        ({"host": HERE, "origin": "http://page.example"}, ("http://page.example",)),
        ({"host": "page.example", "origin": "https://page.example"}, ("https://page.example",)),
        ({"host": "any.example", "origin": "http://page.example"}, ("*",)),
    ],
)
def test_this_machine_and_named_pages_may_ask(headers: dict[str, str], origins: tuple[str, ...]) -> None:
    check_page(headers, origins)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"host": "rebound.example:8080"}, "not for 'rebound.example:8080'"),
        ({"host": "rebound.example:8080", "origin": "http://rebound.example:8080"}, "not for"),
        ({"host": "127.0.0.1.rebound.example"}, "not for"),
        ({"host": "192.168.1.5:8080"}, "not for"),
        ({"host": HERE, "origin": "http://page.example"}, "'http://page.example' may not ask"),
        ({"host": HERE, "origin": "null"}, "may not ask"),
        ({"host": HERE, "origin": "http://127.0.0.1:3000"}, "may not ask"),
        ({"host": HERE, "sec-fetch-site": "cross-site"}, "another site's may not ask"),
    ],
)
def test_strangers_pages_may_not(headers: dict[str, str], words: str) -> None:
    with pytest.raises(Forbidden, match=words):
        check_page(headers, ("https://other.example",))


def test_a_page_can_make_nothing_happen_with_a_simple_request() -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url) as http:
            foreign = {"origin": "http://page.example", "content-type": "text/plain"}
            answer = await http.post("/v1/chat/completions", json=ASKED, headers=foreign)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
            answer = await http.post("/v1/messages", json=ASKED, headers=foreign)
            assert answer.json()["error"]["type"] == "permission_error"
            assert (await http.get("/api/status", headers={"host": "rebound.example"})).status_code == 403
            assert (await http.get("/", headers={"sec-fetch-site": "cross-site"})).status_code == 200, "a link"
            assert not (await served.gateway.catalog.client(MODEL))._answers

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"keys": ("right",)}, {"origins": ("http://page.example",)}])
def test_a_key_or_a_name_lets_a_page_in(options: Any) -> None:
    async def main() -> None:
        async with serving(**options) as served, httpx.AsyncClient(base_url=served.url) as http:
            headers = {"origin": "http://page.example", "authorization": "Bearer right"}
            answer = await http.get("/v1/models", headers=headers)
            assert answer.status_code == 200
            named = "origins" in options
            assert answer.headers.get("access-control-allow-origin") == ("http://page.example" if named else None)
            asking = {"access-control-request-method": "POST", "access-control-request-private-network": "true"}
            before = await http.options("/v1/chat/completions", headers=headers | asking)
            assert before.status_code == (204 if named else 405)
            assert before.headers.get("access-control-allow-private-network") == ("true" if named else None)

    asyncio.run(main())


def test_keys_of_any_characters_are_known() -> None:
    keys = Keys(("first", "schlüssel"))
    sent = "schlüssel".encode().decode("latin-1")  # as a server sees a header
    assert keys.owner({"authorization": f"Bearer {sent}"}) != keys.owner({"x-api-key": "first"})
    with pytest.raises(Unauthorised, match="not known"):
        keys.owner({"x-api-key": "schlüssel"})
