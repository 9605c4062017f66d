"""Bodies that are compressed, endless, broken, or in an encoding that nobody knows; answers to those who take them compressed."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import httpx
import pytest
import zstandard
from support.gateway import MODEL, serving

from swarm.gateway.http.body import MAX_BODY_BYTES
from swarm.gateway.http.compression import MAX_MEMBERS, check_encoding, decoded, takes_gzip
from swarm.gateway.http.errors import BodyTooLong, FieldFault, UnknownEncoding

WORDS = b"words " * 1000
RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)
PACKED = [  # without times, so that names of tests are the same in each process
    ("gzip", gzip.compress(WORDS, mtime=0)),
    ("gzip", gzip.compress(WORDS[:7], mtime=0) + gzip.compress(WORDS[7:], mtime=0)),
    ("x-gzip", gzip.compress(WORDS, mtime=0)),
    ("deflate", zlib.compress(WORDS)),
    ("deflate", RAW.compress(WORDS) + RAW.flush()),
    ("zstd", zstandard.compress(WORDS)),
    ("ZSTD", zstandard.ZstdCompressor(write_content_size=False).compress(WORDS)),
    ("gzip, zstd", zstandard.compress(gzip.compress(WORDS, mtime=0))),
    ("identity", WORDS),
    ("", WORDS),
]


@pytest.mark.parametrize(("header", "body"), PACKED)
def test_what_was_packed_is_unpacked(header: str, body: bytes) -> None:
    assert decoded(body, check_encoding(header), len(WORDS)) == WORDS


@pytest.mark.parametrize(("header", "body"), PACKED[:-2])
def test_no_more_is_unpacked_than_the_bound(header: str, body: bytes) -> None:
    with pytest.raises(BodyTooLong, match="more than 999 bytes"):
        decoded(body, check_encoding(header), 999)


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_what_is_broken_is_said(name: str) -> None:
    with pytest.raises(FieldFault, match=f"no {name}"):
        decoded(b"{}", (name,), 100)


def test_members_are_bounded() -> None:
    assert decoded(gzip.compress(b"") * 10_000, ("gzip",), 100) == b""
    assert decoded(gzip.compress(b"a") * MAX_MEMBERS, ("gzip",), 100) == b"a" * MAX_MEMBERS


@pytest.mark.parametrize("header", ["br", "gzip, br", "gzip, gzip, gzip, gzip"])
def test_an_unknown_encoding_is_refused(header: str) -> None:
    with pytest.raises(UnknownEncoding):
        check_encoding(header)


@pytest.mark.parametrize(
    ("header", "takes"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_who_takes_gzip(header: str, takes: bool) -> None:
    assert takes_gzip(header) == takes


def test_over_http() -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=30) as http:
            body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 1}).encode()
            path, headers = "/v1/completions", {"content-encoding": "zstd"}
            assert (await http.post(path, content=zstandard.compress(body), headers=headers)).status_code == 200
            bomb = zstandard.compress(b" " * (MAX_BODY_BYTES + 1))
            answer = await http.post(path, content=bomb, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_long")
            answer = await http.post(path, content=body, headers={"content-encoding": "br"})
            assert answer.status_code == 415
            assert "zstd, gzip, deflate" in answer.json()["error"]["message"]
            plain = await http.get("/openapi.json", headers={"accept-encoding": "identity"})
            packed = await http.get("/openapi.json", headers={"accept-encoding": "gzip"})
            assert ("content-encoding" in plain.headers, packed.headers["content-encoding"]) == (False, "gzip")
            assert plain.json() == packed.json()
            assert int(packed.headers["content-length"]) < len(plain.content) / 4
            answer = await http.post(
                path, json={**json.loads(body), "stream": True}, headers={"accept-encoding": "gzip"}
            )
            assert "content-encoding" not in answer.headers

    asyncio.run(main())
