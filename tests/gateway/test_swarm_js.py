"""The JavaScript client and what of the console needs no browser, under Node: their own tests, against a gateway here."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from support.gateway import serving

TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))
SECONDS = 120.0


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node here")
def test_the_javascript_client() -> None:
    async def main() -> None:
        async with serving(keys=("right",)) as served:
            environment = {**os.environ, "SWARM_URL": served.url, "SWARM_KEY": "right"}
            node = await asyncio.create_subprocess_exec(
                "node",
                "--test",
                *map(str, TESTS),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                told, _ = await asyncio.wait_for(node.communicate(), SECONDS)
            finally:
                if node.returncode is None:
                    node.kill()
                    await node.wait()
            assert node.returncode == 0, told.decode()

    asyncio.run(main())
