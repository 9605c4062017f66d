"""What `swarm bench` is to measure, and whether that goes together."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.bench.against.llama_bench import TYPES
from swarm.bench.against.program import Program
from swarm.bench.subject import Subject
from swarm.errors import UsageFault

PROMPT_ROWS = 512
WARM_UP = 3  # decoded tokens that do not count


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, and how often."""

    subject: Subject
    precision: str = "bf16"
    numerics: str = "native"
    threads: int | None = None
    rounds: int = 4
    tokens: int = 32  # decoded in each
    llama_bench: Program | None = None  # beside ours, in turns
    native: bool = False  # torch's kernels, too, in turns with our own

    def check(self) -> None:
        """Raises UsageFault where options do not go together."""
        subject = self.subject
        if subject.spec.both_ways:
            raise UsageFault(f"--model {subject.path}: {subject.spec.architecture} generates nothing to measure")
        if subject.spec.max_positions < PROMPT_ROWS + WARM_UP + self.tokens:
            raise UsageFault(
                f"--model {subject.path}: its context of {subject.spec.max_positions} is too short to measure"
            )
        if self.native and self.numerics == "native":
            raise UsageFault("--against native: that is what is measured already")
        if self.llama_bench is None:
            return
        if self.llama_bench.name != "llama-bench":
            raise UsageFault(f"--against {self.llama_bench.name}: goes with --quality; here it is llama-bench:PATH")
        if subject.path is not None and subject.path.suffix != ".gguf":
            raise UsageFault(f"--against llama-bench: reads GGUF files, and {subject.path} is none")
        if subject.path is None and self.precision not in TYPES:
            known = ", ".join(TYPES)
            raise UsageFault(
                f"--against llama-bench: a file with random weights is made for {known}, not {self.precision}"
            )
