"""Where a client looks for its swarm, as its caller writes it."""

import asyncio

import pytest

from swarm.client import Client
from swarm.errors import NoSwarm, UsageFault


def test_addresses_are_text_as_on_the_command_line_or_pairs(monkeypatch):
    monkeypatch.setattr("swarm.discovery.directory.JOIN_ATTEMPTS", 1)

    async def main():
        async with Client("demo", bootstrap=["127.0.0.1:9", "[::1]:9", ("127.0.0.1", 10)]):
            pass

    with pytest.raises(NoSwarm) as fault:
        asyncio.run(main())
    for address in ("127.0.0.1 port 9", "::1 port 9", "127.0.0.1 port 10"):
        assert address in str(fault.value)


@pytest.mark.parametrize("bootstrap", [["2001:db8::7"], ["host:port"], "10.0.0.1:7700,10.0.0.2:7700"])
def test_what_is_no_address_is_said(bootstrap):
    with pytest.raises(UsageFault, match="is no address: write HOST:PORT"):
        Client("demo", bootstrap=bootstrap)
