"""A model's files without its manifest."""

from pathlib import Path

from swarm.bench.start import linked
from swarm.checkpoint.manifest import MANIFEST_FILE


def test_a_model_is_linked_without_its_manifest(tmp_path: Path) -> None:
    model, folder = tmp_path / "tiny", tmp_path / "links"
    model.mkdir()
    folder.mkdir()
    for name in ("config.json", "model.safetensors", MANIFEST_FILE):
        (model / name).write_text(name)

    place = linked(model, folder)

    assert {file.name for file in place.iterdir()} == {"config.json", "model.safetensors"}
    assert (place / "config.json").read_text() == "config.json"


def test_a_gguf_file_is_linked_by_itself(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("numbers")
    (tmp_path / f"model.gguf.{MANIFEST_FILE}").write_text("{}")
    (folder := tmp_path / "links").mkdir()

    assert linked(tmp_path / "model.gguf", folder).read_text() == "numbers"
    assert [file.name for file in folder.iterdir()] == ["model.gguf"]
