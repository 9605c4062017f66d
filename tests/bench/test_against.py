"""Other programs: what they are told, what they say, and the files they read."""

from __future__ import annotations

import asyncio
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from swarm.bench.against import random_gguf
from swarm.bench.against.llama_bench import Report, arguments, parse
from swarm.bench.against.program import Program, output_of, parse_against, parse_program
from swarm.bench.against.rivals import llama_bench
from swarm.bench.figures import Other, Speed
from swarm.bench.plan import Plan
from swarm.bench.run import even_spans, model_file
from swarm.bench.shapes import SHAPES
from swarm.bench.subject import Subject
from swarm.checkpoint import open_checkpoint
from swarm.errors import LocalFault, UsageFault
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

LLAMA_BENCH_FILE = Path(__file__).with_name("llama-bench.json")
LLAMA_BENCH = LLAMA_BENCH_FILE.read_text(encoding="utf-8")
SMALL = SHAPES["hop"] | {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4}
Usage = namedtuple("Usage", "total used free")


def test_what_llama_bench_said() -> None:
    assert parse(LLAMA_BENCH, 512, 64) == Report(36.117513, 14.0214, "1 (0c1e570)", 763097088)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '[{"n_prompt": 512}]', LLAMA_BENCH.replace("avg_ts", "tokens"), LLAMA_BENCH[:900]]
)
def test_what_is_no_report_of_it_is_an_error_of_its_own(text: str) -> None:
    with pytest.raises(LocalFault, match="llama-bench"):
        parse(text, 512, 64)


def test_llama_bench_gets_as_many_threads() -> None:
    told = arguments(Path("model.gguf"), 3, 512, 64)
    assert told[:8] == ["-m", "model.gguf", "-t", "3", "-p", "512", "-n", "64"]


def test_a_program_is_named_with_its_place() -> None:
    assert parse_program(f"llama-bench:{sys.executable}") == Program("llama-bench", Path(sys.executable).absolute())
    for text, complaint in (
        ("llama-bench", "write native, or NAME:PATH"),
        ("vllm:/bin/sh", "llama-bench, llama-perplexity"),
        ("llama-bench:/nowhere", "/nowhere"),
    ):
        with pytest.raises(UsageFault, match=complaint):
            parse_program(text)


def test_torch_and_one_program_may_be_set_beside_ours() -> None:
    program = f"llama-bench:{sys.executable}"
    assert parse_against(()) == (None, False)
    assert parse_against(("native", program)) == (parse_program(program), True)
    with pytest.raises(UsageFault, match="one program at a time"):
        parse_against((program, program))


def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(LocalFault, match="code 3: out of luck"):
        asyncio.run(
            output_of(
                Program("llama-bench", Path(sys.executable)), ["-c", "import sys; print('out of luck'); sys.exit(3)"]
            )
        )


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "BF16", "F32"])
def test_a_file_with_random_weights_is_one_that_others_read(kind: str, tmp_path: Path) -> None:
    spec = ModelSpec.from_config(SMALL)
    random_gguf.write_random(path := tmp_path / "random.gguf", spec, kind)

    read = gguf.GGUFReader(path)
    assert {tensor.tensor_type.name for tensor in read.tensors} == {kind, "F32"} | (
        {"Q6_K"} if kind == "Q4_0" else set()
    )
    for tensor in read.tensors:
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(numbers).all()
        assert 0 < np.abs(numbers).max() < 2
    assert replace(open_checkpoint(path).spec, bos_id=spec.bos_id, eos_ids=spec.eos_ids) == spec


def test_a_file_that_finds_no_room_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_gguf.shutil, "disk_usage", lambda folder: Usage(1 << 40, 1 << 40, 1 << 20))
    with pytest.raises(UsageFault, match="TMPDIR"):
        random_gguf.write_random(tmp_path / "random.gguf", ModelSpec.from_config(SMALL), "Q4_0")
    assert not list(tmp_path.iterdir())


def test_options_that_do_not_go_together() -> None:
    subject, bench = Subject.of_shape("llama-1b"), Program("llama-bench", Path("/bin/sh"))
    Plan(subject, "int4", llama_bench=bench).check()
    for plan, complaint in (
        (Plan(subject, "int3", llama_bench=bench), "int3"),
        (Plan(subject, "int4", llama_bench=Program("llama-perplexity", Path("/bin/sh"))), "--quality"),
        (Plan(subject, native=True), "already"),
        (Plan(replace(subject, path=Path("folder")), llama_bench=bench), "GGUF"),
        (Plan(replace(subject, spec=replace(subject.spec, max_positions=256))), "too short"),
    ):
        with pytest.raises(UsageFault, match=complaint):
            plan.check()


def test_a_turn_of_llama_bench(tmp_path: Path) -> None:
    (program := tmp_path / "llama-bench").write_text(f"#!/bin/sh\ncat {LLAMA_BENCH_FILE}\n")
    program.chmod(0o700)
    plan = Plan(Subject.of_shape("llama-1b"), "int4")

    rival = llama_bench(plan, Program("llama-bench", program), tmp_path / "model.gguf", 2)
    other, speed = asyncio.run(rival.measure(64))

    assert other == Other("llama.cpp's Q4_0", "build 1 (0c1e570)", 763097088, fresh=True)
    assert speed == Speed(36.117513, 14.0214)


def test_the_file_of_random_weights_is_there_only_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec.from_config(SMALL)
    plan = Plan(Subject("small", spec), "int8", llama_bench=Program("llama-bench", Path("/bin/sh")))

    async def used() -> Path:
        async with model_file(plan, lambda text: None) as file:
            assert file is not None
            assert file.stat().st_size > random_gguf.file_bytes(random_gguf.tensors_of(spec, "Q8_0"))
            return file

    assert not asyncio.run(used()).parent.exists()


def test_spans_of_nearly_equal_length() -> None:
    assert even_spans(7, 3) == [LayerSpan(0, 2), LayerSpan(2, 4), LayerSpan(4, 7)]
