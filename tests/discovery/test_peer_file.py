"""Peers kept on disk: by them a node finds its swarm when no bootstrap answers."""

import asyncio
import json
import os

import pytest
from support.announcements import MODEL, announcement, identity
from support.clock import run_virtual
from support.dht import PORT, Dht

from swarm.discovery.keys import node_id
from swarm.discovery.peer_file import (
    MAX_AGE,
    MAX_FILE_BYTES,
    MAX_PEERS,
    SUFFIX,
    KnownPeer,
    chosen,
    read_peer_file,
    write_peer_file,
)
from swarm.errors import NoSwarm
from swarm.trace import Trace


def known(number, seen=1000.0):
    return KnownPeer(node_id(identity(number).peer_id), (f"10.0.{number // 250}.{number % 250 + 1}", PORT), seen)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "deep" / "peers.json"
    assert read_peer_file(path) == []
    peers = [known(1), KnownPeer(b"i" * 20, ("2001:db8::1", 65535), 2000.5)]
    write_peer_file(path, peers)
    assert read_peer_file(path) == peers
    assert path.stat().st_mode & 0o777 == 0o600
    write_peer_file(path, peers[:1])
    assert read_peer_file(path) == peers[:1]
    assert os.listdir(path.parent) == ["peers.json"]


def test_the_file_is_small_however_many_peers_there_are(tmp_path):
    peers = [
        KnownPeer(bytes([number]) * 20, ("2001:db8:1111:2222:3333:4444:5555:6666", 65535), 1.8e9)
        for number in range(64)
    ]
    write_peer_file(tmp_path / "p", chosen([], peers, 1.8e9))
    assert (tmp_path / "p").stat().st_size < MAX_FILE_BYTES / 4
    assert len(read_peer_file(tmp_path / "p")) == MAX_PEERS


def test_of_many_swarms_those_used_last_are_remembered(tmp_path):
    for number in range(40):
        path = tmp_path / f"{number}{SUFFIX}"
        write_peer_file(path, [known(number)])
        os.utime(path, (number + 1, number + 1))
    (tmp_path / "bans.json").write_text("{}")
    write_peer_file(tmp_path / f"last{SUFFIX}", [known(1)])
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"bans.json", f"last{SUFFIX}", *(f"{number}{SUFFIX}" for number in range(9, 40))}


def test_those_who_answer_come_first_and_of_them_the_oldest_acquaintances():
    before = [known(1), known(2, seen=3000.0), known(3, seen=2000.0), known(4, seen=-MAX_AGE)]
    alive = [(known(number).node, known(number).endpoint) for number in (9, 1)]
    kept = chosen(alive, before, 4000.0)
    assert kept == [known(1, 4000.0), known(9, 4000.0), known(2, 3000.0), known(3, 2000.0)]
    many = [(bytes([number]) * 20, ("10.0.0.1", number + 1)) for number in range(200)]
    assert len(chosen(many, before, 4000.0)) == MAX_PEERS


GOOD = [known(1).node.hex(), "0a0000011e14", 1.0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"version": 2, "peers": []}',
        b'{"version": 1, "peers": {}}',
        b"[" * 60_000,
        json.dumps({"version": 1, "peers": [GOOD, GOOD[:2]]}).encode(),
        json.dumps({"version": 1, "peers": [["00", *GOOD[1:]]]}).encode(),
        json.dumps({"version": 1, "peers": [[GOOD[0], "e00000011e14", 1.0]]}).encode(),
        json.dumps({"version": 1, "peers": [[*GOOD[:2], 10**400]]}).encode(),
        json.dumps({"version": 1, "peers": [[*GOOD[:2], None]]}).encode(),
        json.dumps({"version": 1, "peers": [GOOD] * 2000}).encode(),
    ],
)
def test_a_damaged_file_is_told_and_ignored(tmp_path, content):
    path = tmp_path / "peers.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_peer_file(path)

    async def main():
        async with Dht() as dht:
            await dht.grow(2)
            events = []
            await dht.client(known_peers=path, trace=Trace(events.append))
            assert next((event.name, event.phase) for event in events) == ("directory.known", "failed")
            assert str(path) in str(events[0])
            await asyncio.sleep(5)
            assert len(read_peer_file(path)) == 2

    run_virtual(main())


def test_a_cold_start_without_any_bootstrap(tmp_path):
    async def main():
        async with Dht() as dht:
            await dht.grow(8)
            for node in dht.nodes[1:]:
                await node.announce(announcement(node.identity, now=dht.now()))
            async with dht.make(passive=True, known_peers=tmp_path / "client") as client:
                await client.join()
                assert len(await client.lookup(MODEL)) == 7
            worker = dht.make(known_peers=tmp_path / "worker")
            async with worker:
                await worker.join()
                await asyncio.sleep(5)
                assert len(read_peer_file(tmp_path / "worker")) == 8
                began = dht.now()
                dht.switch.kill(dht.bootstrap)
                assert len(await worker.lookup(MODEL)) == 7  # what runs goes on
            for file in ("client", "worker"):
                async with dht.make(passive=True, known_peers=tmp_path / file) as again:
                    began = dht.now()
                    await again.join()
                    assert dht.now() - began < 10
                    assert len(await again.lookup(MODEL)) == 7
            async with dht.make(passive=True) as stranger:
                with pytest.raises(NoSwarm):
                    await stranger.join()

    run_virtual(main())


@pytest.mark.parametrize("dead", [0, 1])
def test_a_cold_start_with_one_of_two_bootstraps_dead(dead):
    async def main():
        async with Dht() as dht:
            await dht.grow(6)
            await dht.nodes[4].announce(announcement(dht.nodes[4].identity, now=dht.now()))
            both = [(node.host, PORT) for node in dht.nodes[:2]]
            dht.switch.kill(both[dead][0])
            began = dht.now()
            client = await dht.client(bootstrap=both)
            assert dht.now() - began < 10
            assert len(await client.lookup(MODEL)) == 1

    run_virtual(main())


def test_when_nobody_answers_the_bootstraps_are_named_and_the_file_is_kept(tmp_path):
    path = tmp_path / "peers"
    write_peer_file(path, [known(1), known(2)])

    async def main():
        async with Dht() as dht:
            await dht.start()
            dht.switch.kill(dht.bootstrap)
            async with dht.make(passive=True, known_peers=path) as client:
                with pytest.raises(NoSwarm, match=dht.bootstrap):
                    await client.join()
            assert read_peer_file(path) == [known(1), known(2)]

    run_virtual(main())


def test_who_sits_where_a_known_peer_was_is_not_taken_for_it(tmp_path):
    async def main():
        async with Dht() as dht:
            await dht.grow(3)
            path = tmp_path / "peers"
            write_peer_file(path, [KnownPeer(node_id(identity(77).peer_id), (dht.nodes[1].host, PORT), dht.now())])
            dht.switch.kill(dht.bootstrap)
            async with dht.make(passive=True, known_peers=path) as client:
                with pytest.raises(NoSwarm):
                    await client.join()
                assert client.contacts == 0

    run_virtual(main())


def test_a_disk_that_cannot_be_written_stops_nobody(tmp_path):
    async def main():
        async with Dht() as dht:
            await dht.grow(2)
            (tmp_path / "file").write_text("no directory")
            events = []
            async with dht.make(known_peers=tmp_path / "file" / "peers", trace=Trace(events.append)) as node:
                await node.join()
                await asyncio.sleep(10)
                assert node.contacts == 2
            assert [event.phase for event in events if event.name == "directory.known"][-1] == "failed"

    run_virtual(main())
