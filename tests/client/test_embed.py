"""Vectors of texts through chains: as the oracle's rows pooled by hand, whoever dies, audited, and what is refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch
from support.audits import CONFIG, First, Seen, by_id, turn
from support.clock import run_virtual
from support.embedders import bert_tokenizer, make_embedder, oracle_rows, write_modules
from support.models import make_model
from support.swarm import LocalSwarm
from tokenizers import Tokenizer
from torch.nn import functional

from chaos.liars import Lie
from swarm.client import Client
from swarm.config import ClientConfig
from swarm.errors import ModelFault, PromptTooLong, UsageFault
from swarm.trace import Event, Trace

TEXT = "The quick brown fox jumps over the lazy dog; où est la bibliothèque ?"
LONG = " ".join(["the dog sleeps"] * 60)  # more rows than a chunk of the grid


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("model"))


def vector(directory: Path, text: str | list[int], precision: str = "fp32") -> list[float]:
    """The whole model in one process."""

    async def main() -> list[float]:
        async with Client(directory, local=True, precision=precision) as client:
            return await client.embed(text)

    return asyncio.run(main())


def ids_of(text: str) -> list[int]:
    ids: list[int] = bert_tokenizer().encode(text).ids
    return ids


def test_the_marks_of_the_tokenizer_are_part_of_a_text(model: Path) -> None:
    cls, sep = (bert_tokenizer().token_to_id(mark) for mark in ("[CLS]", "[SEP]"))
    assert (ids_of(TEXT)[0], ids_of(TEXT)[-1]) == (cls, sep)
    assert vector(model, TEXT) == vector(model, ids_of(TEXT)) != vector(model, ids_of(TEXT)[1:-1])


@pytest.mark.parametrize("text", ["", TEXT, LONG])
@pytest.mark.parametrize("name", ["roberta", "distilbert-odd"])
def test_the_mean_of_all_rows_where_nothing_is_said(tmp_path: Path, name: str, text: str) -> None:
    directory = make_embedder(tmp_path, name=name)
    expected = oracle_rows(directory, ids_of(text)).mean(0)
    assert torch.allclose(torch.tensor(vector(directory, text)), expected, rtol=1e-5, atol=1e-5)


def test_pooling_as_the_model_says(tmp_path: Path) -> None:
    directory = make_embedder(tmp_path / "cls", "cls_token", unit=True)
    expected = functional.normalize(oracle_rows(directory, ids_of(TEXT))[0], dim=0)
    assert torch.allclose(torch.tensor(vector(directory, TEXT)), expected, atol=1e-5)
    directory = make_embedder(tmp_path / "both", "mean_tokens", "max_tokens")
    rows = oracle_rows(directory, ids_of(TEXT))
    expected = torch.cat([rows.max(0).values, rows.mean(0)])
    assert torch.allclose(torch.tensor(vector(directory, TEXT)), expected, atol=1e-5)


def test_a_decoder_gives_its_last_row_unless_its_files_say_otherwise(tmp_path: Path) -> None:
    directory, text = make_model(tmp_path, tokenizer=True), "def main():" * 20
    plain = torch.tensor(vector(directory, text))
    assert float(plain.norm()) == pytest.approx(1.0, abs=1e-5)
    write_modules(directory, "Transformer", "Pooling")
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    last = torch.tensor(vector(directory, text))
    assert torch.allclose(functional.normalize(last, dim=0), plain, atol=1e-6)
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode(text).ids
    assert torch.allclose(torch.tensor(vector(directory, text)), oracle_rows(directory, ids).mean(0), atol=1e-5)


def test_a_model_s_own_prompt_stands_before_every_text(tmp_path: Path) -> None:
    directory = make_embedder(tmp_path, "mean_tokens")
    plain = vector(directory, "fn: " + TEXT)
    stated = {"prompts": {"query": "fn: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(stated))
    assert vector(directory, TEXT) == plain


def test_a_text_is_cut_where_the_files_say_so_and_the_user_is_told(tmp_path: Path) -> None:
    directory = make_embedder(tmp_path, most=12)
    whole = ids_of(TEXT)
    cut = [*whole[:11], whole[-1]]
    events: list[Event] = []

    async def main() -> None:
        async with Client(directory, local=True, precision="fp32", trace=Trace(events.append)) as client:
            assert client.encode_text(TEXT).ids == tuple(cut)
            events.clear()
            assert await client.embed(TEXT) == await client.embed(cut)
            assert [event.details for event in events if event.name == "embed.cut"] == [
                {"tokens": len(whole), "most": 12}
            ]

    asyncio.run(main())


def test_a_text_beyond_the_context_is_refused(model: Path) -> None:
    assert len(vector(model, [5] * 300)) == 64  # up to its last position
    with pytest.raises(PromptTooLong, match="the text has 301 tokens; the model takes 300"):
        vector(model, [5] * 301)
    with pytest.raises(UsageFault, match="empty"):
        vector(model, [])


def test_what_makes_vectors_otherwise_is_refused_by_name(tmp_path: Path) -> None:
    write_modules(make_embedder(tmp_path, "mean_tokens"), "Transformer", "Pooling", "Dense")
    with pytest.raises(ModelFault, match="Transformer, Pooling, Dense"):
        vector(tmp_path, TEXT)


def test_an_encoder_writes_nothing(model: Path) -> None:
    async def main() -> None:
        async with Client(model, local=True) as client:
            with pytest.raises(UsageFault, match=r"is an encoder: .* --embed TEXT`, or POST /v1/embeddings"):
                client.generate("hello")

    asyncio.run(main())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("victim", [None, 0, 1])
def test_a_chain_gives_the_same_bits_whoever_dies(model: Path, precision: str, victim: int | None) -> None:
    """One of two workers is killed as the rows go to it; its spare takes its place."""
    expected = vector(model, LONG, precision)
    spans = [(0, 1), (1, 3)]

    async def main() -> None:
        killed: list[str] = []

        def kill(event: Event) -> None:
            if (event.name, event.phase) != ("hop.forward", "started") or killed or victim is None:
                return
            worker = swarm.worker(event.details["peer"])
            if (worker.span.start, worker.span.stop) == spans[victim]:
                killed.append(event.details["peer"])
                worker.kill()

        config = ClientConfig(deadline_seconds=20)
        async with LocalSwarm(model, spans * 2, precision=precision, client_config=config) as swarm:
            async with swarm.client(Trace(kill)) as client:
                assert await client.embed(LONG) == expected
                assert len(killed) == (victim is not None)
                together = await asyncio.gather(*(client.embed(text) for text in (TEXT, LONG, TEXT, "", LONG)))
                assert together[1] == together[4] == expected
                assert together[0] == together[2] == short
            await swarm.freed(5)
            assert all(worker.service.stage.pool.reserved == 0 for worker in swarm.workers)

    short = vector(model, TEXT, precision)
    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("count", [40, 300])
def test_audits_compute_the_one_call_again(model: Path, count: int) -> None:
    """Also where a text fills the whole context, and no more room can be asked for than it takes."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 3)] * 3, client_config=CONFIG) as swarm:
            for liar in (None, by_id(swarm)[0]):
                if liar is not None:
                    turn(liar, Lie.SMALL_NOISE)
                seen = Seen()
                async with swarm.client(Trace(seen), random=First()) as client:
                    await client.embed([5] * count)
                    await client.auditor.idle()
                assert seen.verdicts == (["equal"] if liar is None else ["differs"])
                assert seen.banned == ([] if liar is None else [liar.peer_id.short])

    run_virtual(main())
