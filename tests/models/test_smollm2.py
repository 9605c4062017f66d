"""SmolLM2-135M-Instruct, as its GGUF file has it (Q4_1): a real model through its own chat template.

The kept answers are greedy, in fp32 by portable kernels, so they are the same on every machine. All ten are
llama.cpp's too (llama-cpp-python 0.3.36 on a CPU, this file requantised to F32, n_ctx=512, keys and values in F32, no flash
attention). On the Q4_1 file itself, with the same options, llama.cpp rounds activations to eight bits. Led along the kept answers
it then prefers another token at 14 of their 283 places, near ties by its own logits (place, the kept token's logit, its best):

    What is the capital of France?              0  24.273 24.330
    Write a haiku about the sea.               17  15.960 16.034    21  17.547 17.585
    List three fruits.                         24  19.451 19.462    35  15.398 15.490    38   6.337  6.527
    Who wrote Romeo and Juliet?                24  10.915 11.009    26  16.398 16.442
    What is 12 plus 30?                        10  21.198 21.263
    Give me a title for a story about a dragon. 5  11.710 11.723    21  18.184 18.250
    Why is the sky blue?                       34  18.354 18.395
    Name the largest planet of the solar system.  16  25.034 25.082    28  20.227 20.270
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from support.processes import SwarmProcess, close_all

from swarm.client import Client

pytestmark = pytest.mark.models
KEPT = json.loads((Path(__file__).parent / "smollm2.json").read_text(encoding="utf-8"))
TOKENS = 40


def test_ten_answers(smollm2: Path) -> None:
    async def main() -> list[list[int]]:
        found = []
        async with Client(smollm2, local=True, precision="fp32", numerics="portable") as client:
            for kept in KEPT:
                answer = client.generate([{"role": "user", "content": kept["prompt"]}], max_tokens=TOKENS)
                async for _ in answer:
                    pass
                found.append(list(answer.token_ids))
        return found

    assert asyncio.run(main()) == [kept["ids"] for kept in KEPT]


def test_over_three_workers_one_of_which_dies(smollm2: Path, tmp_path: Path) -> None:
    kept = max(KEPT, key=lambda kept: len(kept["text"]))
    model = ("--model", str(smollm2))
    processes = [SwarmProcess.server("bootstrap", tmp_path)]
    try:
        place = processes[0].ready().address
        for layers in ("0-9", "10-19", "20-29", "10-19"):
            serve = ("--layers", layers, "--precision", "fp32", "--numerics", "portable", "--threads", "1")
            processes.append(SwarmProcess.server("worker", tmp_path, *model, *serve, "--bootstrap", place))
        workers = [process.ready() for process in processes[1:]]
        chain = ",".join(worker.peer for worker in workers[:3])
        asked = (
            "client",
            *model,
            "--bootstrap",
            place,
            "--chain",
            chain,
            "--temperature",
            "0",
            "--max-tokens",
            str(TOKENS),
        )
        client = SwarmProcess(*asked, kept["prompt"], watched=False, env=dict(os.environ, XDG_DATA_HOME=str(tmp_path)))
        processes.append(client)
        whole = kept["text"].encode()
        begun = client.read_until(whole[8:20])
        workers[1].process.kill()
        assert begun + client.rest() == whole
        assert "recovered in" in client.errors()
    finally:
        close_all(processes)
