"""The demo's children, wherever it is started."""

import asyncio

from swarm.demo.processes import Processes


def test_a_folder_called_swarm_does_not_stand_for_the_package(tmp_path, monkeypatch):
    """As in the folder that holds a clone."""
    (tmp_path / "swarm").mkdir()
    (tmp_path / "swarm" / "__init__.py").write_text("raise ImportError('not the package')\n")
    monkeypatch.chdir(tmp_path)

    async def main():
        async with Processes() as processes:
            return (await processes.start("bootstrap")).address

    assert asyncio.run(main()).startswith("127.0.0.1:")
