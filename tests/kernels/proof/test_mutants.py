"""How sharp the golden bits are: each small wrong, made in a copy of one path's source, changes the bits of some golden case."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernels.proof.conftest import SANITIZED
from kernels.proof.program import QUICK, answers, build, golden, link, paths, unlike

from swarm.kernels.building import SOURCE, compile_units, units_of

pytestmark = pytest.mark.kernels

UNITS = {"plain": "path0.o", "avx2": "path1.o", "avx512": "path2.o"}


@dataclass(frozen=True)
class Mutant:
    """A wrong: text that stands once in a file, and what stands there instead."""

    path: str
    file: str
    right: str
    wrong: str


MUTANTS = {
    "slices added as they come": Mutant(
        "plain", "linear.h", "for (int done = slice + 1; done % 2 == 0; done /= 2, depth--)", "for (; depth > 1; depth--)"
    ),
    "slices added as 0 + 4, 1 + 5": Mutant(
        "avx512",
        "linear.h",
        "for (int width = 1; width < SLICES; width *= 2)\n        for (int slice = 0; slice < SLICES; slice += 2 * width)",
        "for (int width = SLICES / 2; width; width /= 2)\n        for (int slice = 0; slice < width; slice++)",
    ),
    "a slice's sum added to another": Mutant(
        "plain", "linear.h", "add(parts[depth - 2][i], parts[depth - 1][i])", "add(parts[depth - 2][i], parts[0][i])"
    ),
    "slices cut a group later": Mutant(
        "avx2", "linear_rows.h", "return slice * groups / SLICES;", "return (slice * groups + SLICES - 1) / SLICES;"
    ),
    "lanes added from both ends": Mutant(
        "avx512",
        "lanes.h",
        "for (int i = 0; i < width; i++) part[i] = part[i] + part[i + width];",
        "for (int i = 0; i < width; i++) part[i] = part[i] + part[2 * width - 1 - i];",
    ),
    "plain fma rounded twice": Mutant(
        "plain", "lanes.h", "fused(a.lane[i], b.lane[i], c.lane[i])", "a.lane[i] * b.lane[i] + c.lane[i]"
    ),
    "fma rounded twice": Mutant(
        "avx512", "lanes.h", "return _mm512_fmadd_ps(a, b, c);", "return _mm512_add_ps(_mm512_mul_ps(a, b), c);"
    ),
    "a maximum that keeps what is no number": Mutant(
        "avx2", "lanes.h", "_mm256_max_ps(a.high, b.high)", "_mm256_max_ps(b.high, a.high)"
    ),
    "a mean by multiplication": Mutant(
        "plain", "rows.h", "sum_lanes(squares) / (float)width", "sum_lanes(squares) * (1.0f / (float)width)"
    ),
    "a rotation rounded twice": Mutant(
        "avx2", "rows.h", "fma3(a, c, negative(mul(b, s)))", "sub(mul(a, c), mul(b, s))"
    ),
    "an exponential's last step fused": Mutant(
        "avx512",
        "lanes.h",
        "p = add(fma3(p, mul(rest, rest), rest), set(1.0f));",
        "p = fma3(mul(p, rest), rest, add(rest, set(1.0f)));",
    ),
    "a step by division": Mutant("avx2", "quantise.h", "* (1.0f / (float)most)", "/ (float)most"),
    "numbers of two bytes summed apart": Mutant(
        "avx512",
        "linear_integers.h",
        "        sums[r] = _mm512_cvtepi32_ps(sum);",
        "        sums[r] = wide ? add(mul(set(255.0f), _mm512_cvtepi32_ps(total[2 * r + 1])), _mm512_cvtepi32_ps(total[2 * r])) "
        ": _mm512_cvtepi32_ps(sum);",
    ),
    "weights of values in bytes, off in their last digit": Mutant(
        "avx512",
        "attention.h",
        "fma3(set(weights[q * BLOCK + p]), value, sums[q * N + n])",
        "fma3(set(kind == CACHE_INT8 ? weights[q * BLOCK + p] * 0x1.000002p0f : weights[q * BLOCK + p]), value, sums[q * N + n])",
    ),
    "a difference of what is written": Mutant(
        "avx512",
        "delta.h",
        "mul(sub(load(value + n * LANES), recalled[n]), set(room->strengths[row]))",
        "fma3(load(value + n * LANES), set(room->strengths[row]), negative(mul(recalled[n], set(room->strengths[row]))))",
    ),
    "blocks joined without fma": Mutant(
        "plain",
        "attention.h",
        "fused(block[1], now[0], state[1] * before[0])",
        "block[1] * now[0] + state[1] * before[0]",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A right program's folder, its compiler, and its flags."""

    folder: Path
    command: Sequence[str]
    flags: tuple[str, ...]

    def mutated(self, mutant: Mutant, folder: Path, flags: Sequence[str] | None = None) -> Path:
        """The program with one path of another source, or of other flags."""
        source = folder / "source"
        shutil.copytree(SOURCE, source)
        text = (source / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.right) == 1, f"{mutant.file} no longer says once: {mutant.right}"
        (source / mutant.file).write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
        unit = UNITS[mutant.path]
        units = units_of("x86_64" if mutant.path != "plain" else "")
        objects = compile_units(folder, self.command, {unit: units[unit]}, flags or self.flags, source)
        kept = [str(file) for file in self.folder.glob("*.o") if file.name != unit]
        return link(folder, self.command, [*objects, *kept], self.flags)


@pytest.fixture(scope="module")
def built(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("right")
    build(folder, command, QUICK)
    return Built(folder, command, QUICK)


def here(built: Built, path: str) -> None:
    if path not in paths([built.folder / "driver"]):
        pytest.skip(f"this machine has no {path}")


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_turns_golden_bits_red(built: Built, name: str, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    here(built, mutant.path)
    program = built.mutated(mutant, tmp_path)
    assert unlike(answers([program, mutant.path], list(golden())), golden())


def test_contraction_turns_golden_bits_red(built: Built, tmp_path: Path) -> None:
    here(built, "avx2")
    nothing = Mutant("avx2", "path.c", "linear_job", "linear_job")
    program = built.mutated(nothing, tmp_path, ["-O2", "-ffp-contract=fast"])
    assert unlike(answers([program, "avx2"], list(golden())), golden())


def test_a_store_behind_the_end_ends_the_sanitized_program(sanitized: Path, command: list[str], tmp_path: Path) -> None:
    mutant = Mutant("plain", "lanes.h", "memcpy(p, all, sizeof(float) * (size_t)count);", "memcpy(p, all, sizeof all);")
    program = Built(sanitized.parent, command, SANITIZED).mutated(mutant, tmp_path)
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        answers([program, "plain"], ["softmax 0 1 1 20 3 0"])
