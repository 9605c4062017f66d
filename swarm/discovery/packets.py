"""Datagrams of the directory: bytes to requests and responses and back, every length and type checked. Pure; no clock, no socket.

The framing is rpcudp's, `kind | 20-byte nonce | msgpack`, with a signature before the body of a response:

    request   00 | nonce | [version, method, sender, token, arguments, padding] | proof (16) if the swarm has a key
    response  01 | nonce | key (32) | signature (64) | [token, asker, data port, clock, answer]

A request is padded so that its response is at most three times as long: a forged source address gains little. `sender` is
the node id of a peer that wants to be known, empty from passive ones; it is a hint until that peer has answered with its
signature. `token` proves that its holder receives at its source address. `asker` is where the request came from, as the
responder saw it; the signature covers it and the nonce, so no response can be replayed or passed on to another address.
`clock` is its swarm time.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgpack

from swarm.discovery.addresses import V6_BYTES, Endpoint, pack_endpoint, unpack_endpoint
from swarm.discovery.keys import FINGERPRINT_BYTES, KEY_BYTES, PUBLIC, Keyspace
from swarm.identity import KEY_BYTES as PUBLIC_KEY_BYTES
from swarm.identity import SIGNATURE_BYTES, Identity, PeerId
from swarm.records import MAX_RECORD_BYTES

DIRECTORY_VERSION = 2
MAX_DATAGRAM = 1232  # what an IPv6 packet of 1280 bytes carries: never fragmented
MIN_REQUEST = 412  # a third of the largest response, rounded up
NONCE_BYTES = 20
TOKEN_BYTES = 8
MAX_CLOCK = 1 << 53  # milliseconds since the epoch
MAX_NODES = 16  # in one answer
MAX_RECORDS = 32  # in one answer
_REQUEST, _RESPONSE = 0, 1
_HEAD_BYTES = 1 + NONCE_BYTES
_SIGNED_HEAD_BYTES = _HEAD_BYTES + PUBLIC_KEY_BYTES + SIGNATURE_BYTES
_DOMAIN = b"swarm-response-1"
_BODY_OVERHEAD = 1 + 2 + TOKEN_BYTES + 2 + V6_BYTES + 3 + 9  # of a response's body, before its answer
_ANSWER_OVERHEAD = 32  # array headers and counts
ANSWER_ROOM = MAX_DATAGRAM - _SIGNED_HEAD_BYTES - _BODY_OVERHEAD - _ANSWER_OVERHEAD  # bytes of packed nodes and records
NODE_OVERHEAD, RECORD_OVERHEAD = 2, 3  # bytes that msgpack adds to each


class BadDatagram(ValueError):
    """Bytes that are no valid datagram of ours."""


class Method(IntEnum):
    """What one node asks of another."""

    PING = 1  # [] -> []
    FIND = 2  # [key, wanted: 0 or 1] -> [nodes, count, fingerprint, records]: of the records, as many as fit, if wanted
    PAGE = 3  # [key, after, until] -> [last, records]: those with after < place <= until, and how far they go if not all fitted
    STORE = 4  # [key, record] -> [held: 0 or 1]


_ARGUMENTS: dict[Method, tuple[tuple[type, int], ...]] = {  # type and greatest length or value
    Method.PING: (),
    Method.FIND: ((bytes, KEY_BYTES), (int, 1)),
    Method.PAGE: ((bytes, KEY_BYTES),) * 3,
    Method.STORE: ((bytes, KEY_BYTES), (bytes, MAX_RECORD_BYTES)),
}


@dataclass(frozen=True, slots=True)
class Request:
    nonce: bytes  # 20 random bytes
    method: Method
    sender: bytes  # node id, or empty: do not list me
    token: bytes  # from an earlier response of the same node, or empty
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Response:
    peer_id: PeerId  # who signed it
    token: bytes
    asker: Endpoint  # where the request came from
    data_port: int  # TCP port that serves bulk pages, or 0
    clock: float  # the responder's swarm time
    answer: list[Any]


def _unpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(
            data,
            max_str_len=0,
            max_bin_len=MAX_DATAGRAM,
            max_array_len=MAX_RECORDS,
            max_map_len=0,
            max_ext_len=0,
            use_list=True,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise BadDatagram(f"not msgpack: {error}") from error


def kind_and_nonce(data: bytes) -> tuple[bool, bytes]:
    """Whether a datagram is a request, and its nonce. Raises BadDatagram."""
    if not _HEAD_BYTES < len(data) <= MAX_DATAGRAM or data[0] not in (_REQUEST, _RESPONSE):
        raise BadDatagram("no datagram of ours")
    return data[0] == _REQUEST, data[1:_HEAD_BYTES]


def pack_request(request: Request, keyspace: Keyspace = PUBLIC) -> bytes:
    fields = [DIRECTORY_VERSION, int(request.method), request.sender, request.token, list(request.arguments), b""]
    bare = _HEAD_BYTES + len(msgpack.packb(fields))
    fields[-1] = bytes(max(0, MIN_REQUEST - bare))
    packed: bytes = bytes([_REQUEST]) + request.nonce + msgpack.packb(fields)
    return packed + keyspace.proof(packed)


def parse_request(data: bytes, keyspace: Keyspace = PUBLIC) -> Request:
    """Checks the proof of membership where there must be one. Raises BadDatagram."""
    fields = _unpack(_proven(data, keyspace)[_HEAD_BYTES:])
    if len(data) < MIN_REQUEST or type(fields) is not list or len(fields) != 6:
        raise BadDatagram("no request")
    version, method, sender, token, arguments, _padding = fields
    if version != DIRECTORY_VERSION:
        raise BadDatagram("another version")
    if type(sender) is not bytes or len(sender) not in (0, KEY_BYTES) or type(token) is not bytes:
        raise BadDatagram("no sender")
    if type(method) is not int or method not in _ARGUMENTS:
        raise BadDatagram("no such method")
    wanted = _ARGUMENTS[Method(method)]
    if type(arguments) is not list or len(arguments) != len(wanted):
        raise BadDatagram("wrong arguments")
    for argument, (kind, most) in zip(arguments, wanted, strict=True):
        size = len(argument) if type(argument) is bytes else argument
        if type(argument) is not kind or not 0 <= size <= most or (most == KEY_BYTES and size != most):
            raise BadDatagram("wrong arguments")
    return Request(data[1:_HEAD_BYTES], Method(method), sender, token, tuple(arguments))


def _proven(data: bytes, keyspace: Keyspace) -> bytes:
    """A request without its proof. Raises BadDatagram."""
    size = len(keyspace.proof(b""))
    bare, proof = data[: len(data) - size], data[len(data) - size :]
    if not hmac.compare_digest(proof, keyspace.proof(bare)):
        raise BadDatagram("not of this swarm")
    return bare


def pack_response(
    nonce: bytes,
    identity: Identity,
    token: bytes,
    asker: Endpoint,
    data_port: int,
    clock: float,
    answer: list[Any],
    keyspace: Keyspace = PUBLIC,
) -> bytes:
    body = msgpack.packb([token, pack_endpoint(asker), data_port, min(max(0, round(clock * 1000)), MAX_CLOCK), answer])
    signature = identity.sign(keyspace.domain(_DOMAIN) + nonce + body)
    packed: bytes = bytes([_RESPONSE]) + nonce + bytes(identity.peer_id) + signature + body
    return packed


def signer_of(data: bytes) -> PeerId:
    """Who claims to have signed a response. Raises BadDatagram."""
    if len(data) <= _SIGNED_HEAD_BYTES:
        raise BadDatagram("no response")
    return PeerId(data[_HEAD_BYTES : _HEAD_BYTES + PUBLIC_KEY_BYTES])


def parse_response(data: bytes, keyspace: Keyspace = PUBLIC) -> Response:
    """Checks the signature. Raises BadDatagram."""
    peer_id = signer_of(data)
    body = data[_SIGNED_HEAD_BYTES:]
    signature = data[_HEAD_BYTES + PUBLIC_KEY_BYTES : _SIGNED_HEAD_BYTES]
    if not peer_id.verify(signature, keyspace.domain(_DOMAIN) + data[1:_HEAD_BYTES] + body):
        raise BadDatagram("not signed")
    fields = _unpack(body)
    if type(fields) is not list or len(fields) != 5:
        raise BadDatagram("no response")
    token, asker, data_port, clock, answer = fields
    if type(token) is not bytes or len(token) != TOKEN_BYTES or type(answer) is not list:
        raise BadDatagram("no response")
    if type(data_port) is not int or not 0 <= data_port < 1 << 16:
        raise BadDatagram("no port")
    if type(clock) is not int or not 0 <= clock <= MAX_CLOCK:
        raise BadDatagram("no clock")
    try:
        return Response(peer_id, token, unpack_endpoint(asker), data_port, clock / 1000, answer)
    except ValueError as error:
        raise BadDatagram(f"{error}") from error


def pack_node(node: bytes, endpoint: Endpoint) -> bytes:
    return node + pack_endpoint(endpoint)


def parse_node(packed: object) -> tuple[bytes, Endpoint]:
    """Raises BadDatagram."""
    if type(packed) is not bytes or len(packed) < KEY_BYTES:
        raise BadDatagram("no node")
    try:
        return packed[:KEY_BYTES], unpack_endpoint(packed[KEY_BYTES:])
    except ValueError as error:
        raise BadDatagram(f"{error}") from error


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to FIND."""

    nodes: list[tuple[bytes, Endpoint]]  # near the key, by their own word only
    count: int  # records that the node says it holds under the key
    fingerprint: bytes  # of their peers' node ids
    records: list[Any]  # unchecked


def parse_found(answer: list[Any]) -> Found:
    """Raises BadDatagram."""
    if len(answer) != 4:
        raise BadDatagram("wrong answer")
    nodes, count, mark, records = answer
    if type(nodes) is not list or len(nodes) > MAX_NODES or type(records) is not list:
        raise BadDatagram("wrong answer")
    if type(count) is not int or count < 0 or type(mark) is not bytes or len(mark) != FINGERPRINT_BYTES:
        raise BadDatagram("wrong answer")
    return Found([parse_node(node) for node in nodes], count, mark, records)


def parse_page(answer: list[Any]) -> tuple[list[Any], bytes]:
    """The answer to PAGE: unchecked records, and the place of the last if there are more, else empty. Raises BadDatagram."""
    if (
        len(answer) != 2
        or type(answer[0]) is not bytes
        or len(answer[0]) not in (0, KEY_BYTES)
        or type(answer[1]) is not list
    ):
        raise BadDatagram("wrong answer")
    return answer[1], answer[0]
