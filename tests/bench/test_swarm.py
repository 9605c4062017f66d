"""The measurements' workers, wherever they are started."""

import asyncio

from swarm.bench.subject import Subject
from swarm.bench.swarm import BenchSwarm
from swarm.span import LayerSpan


def test_a_folder_called_swarm_does_not_stand_for_the_package(tmp_path, monkeypatch):
    """As in the folder that holds a clone."""
    (tmp_path / "swarm").mkdir()
    (tmp_path / "swarm" / "__init__.py").write_text("raise ImportError('not the package')\n")
    monkeypatch.chdir(tmp_path)

    async def main():
        async with BenchSwarm(Subject.of_shape("hop"), [LayerSpan(0, 1)], precision="bf16", threads=1) as swarm:
            return [worker.record.span for worker in swarm.workers]

    assert asyncio.run(main()) == [LayerSpan(0, 1)]
