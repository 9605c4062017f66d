"""Whom a running gateway avoids is asked of it, and what it answers is not trusted to be well-formed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from support.records import MODEL, NOW, make_record, peer

from swarm.cli.doctor.gateway import GatewayFault, avoided_by
from swarm.cli.doctor.swarm import Sight, judged
from swarm.cli.status.survey import Health
from swarm.client.peers import Peers
from swarm.config import ChannelConfig, ClientConfig
from swarm.errors import PeerLost
from swarm.gateway.monitoring.status import StatusSource
from swarm.trace import Trace
from swarm.wire.messages import Load


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[tuple[str, list[str | None]]]:
    """Where an HTTP server answers every request so, and the keys that it was shown."""
    keys: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers["authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", keys
        finally:
            server.shutdown()
            serving.join()


def test_what_a_client_avoids_is_told_until_when_and_why() -> None:
    async def suspected() -> list[dict[str, Any]]:
        peers = Peers(None, ClientConfig(), ChannelConfig(), Trace())  # type: ignore[arg-type]
        peers.suspect(peer(2), 30.0, fault=PeerLost("it fell\nsilent"))
        source: Any = type("Source", (), {"clients": {"a": type("Started", (), {"peers": peers})()}})()
        return StatusSource(source, None)._avoided()  # type: ignore[arg-type]

    told = asyncio.run(suspected())
    assert [(each["name"], each["seconds"], each["fault"]) for each in told] == [
        (peer(2).short, 30.0, "it fell\nsilent")
    ]
    with answering(json.dumps({"avoided": told}).encode()) as (url, keys):
        avoided = avoided_by(url, "secret", 0.0)
    assert keys == ["Bearer secret"]
    assert avoided[peer(2)].startswith("until ")
    assert avoided[peer(2)].endswith(f":30, by the clients of {url}: it fellsilent")
    records = tuple(make_record(number, "0-9") for number in range(1, 5))
    health = {record.peer_id: Health(Load(0, 2, 100, 0.01), 0.001) for record in records}
    health[peer(3)] = Health(Load(0, 5, 0, 0.01), 0.001)
    health[peer(4)] = Health(None, None, "the peer speaks version 9", other_version=True)
    (found,) = judged(Sight(records, health, {}, NOW), [], MODEL.name, avoided)
    why = {use.record.peer_id: use.why for use in found.workers}
    assert why == {
        peer(1): "",
        peer(2): f"avoided: {avoided[peer(2)]}",
        peer(3): "full: its caches have no room for a token beside 5 sessions",
        peer(4): "of another version: the peer speaks version 9",
    }


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"avoided": 1}', b'{"avoided": [{"peer": "zz", "seconds": 1, "fault": ""}]}', b"[" * 9999],
)
def test_who_is_no_gateway_is_told_so(body: bytes) -> None:
    with answering(body) as (url, _), pytest.raises(GatewayFault, match="not as a gateway of swarm"):
        avoided_by(url, None, 0.0)


def test_a_gateway_that_refuses_or_is_not_there_is_told() -> None:
    with answering(b"", 401) as (url, _), pytest.raises(GatewayFault, match=r"401.*--gateway-key"):
        avoided_by(url, None, 0.0)
    with pytest.raises(GatewayFault, match="does not tell its status"):
        avoided_by(url, None, 0.0)
    with pytest.raises(GatewayFault, match="no address"):
        avoided_by("file:///etc/passwd", None, 0.0)
