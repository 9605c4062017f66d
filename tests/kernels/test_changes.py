"""A change of path or of threads while others compute: they go on, and no bit changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from support.models import make_config

from swarm.engine import Stage
from swarm.kernels import Library
from swarm.model.spec import ModelSpec

SPEC = ModelSpec.from_config(make_config(num_hidden_layers=2))
STAGES, SESSIONS, CHANGES = 2, 6, 60


def test_two_stages_compute_while_path_and_threads_change(kernels: Library) -> None:
    rows = torch.randn(40, SPEC.hidden, generator=torch.Generator().manual_seed(3)).bfloat16()
    stages = [Stage.random(SPEC, SPEC.span, "int8", numerics="portable") for _ in range(STAGES)]
    expected = stages[0].chunk(stages[0].open(40), rows)

    def answer(number: int) -> bool:
        stage, right = stages[number], True
        for _ in range(SESSIONS):
            cache = stage.open(40)
            parts = [stage.chunk(cache, rows[:30]), *(stage.decode([(cache, row)])[0] for row in rows[30:].split(1))]
            right &= torch.equal(torch.cat(parts), expected)
            cache.close()
        return right

    with ThreadPoolExecutor(STAGES) as pool:
        answers = [pool.submit(answer, number) for number in range(STAGES)]
        for change in range(CHANGES):
            kernels.choose(kernels.paths()[change % len(kernels.paths())])
            kernels.set_threads(1 + change % 4)
        assert all(each.result(60) for each in answers)
