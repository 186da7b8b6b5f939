"""Which models there are, and which of them may be opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.errors import ArtefactDamaged, ModelNotReady, UnknownModel
from service.runtime.library import Library, load_catalogues
from tests.fakes.artefacts import FakeCatalogue, manifest_entry, write_model


def entry_of(folder: Path) -> dict[str, object]:
    entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert isinstance(entry, dict)
    return entry


def test_an_installed_model_opens(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny")
    opened, manifest = Library(tmp_path, []).open("tiny")
    assert opened == folder
    assert manifest.id == "tiny"


def test_a_shipped_model_opens_when_its_files_are_the_pinned_ones(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny")
    library = Library(tmp_path, [FakeCatalogue(entry_of(folder))])
    assert library.open("tiny")[0] == folder


def test_a_shipped_model_of_other_pins_is_damaged(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")  # sound by its own manifest
    pinned = manifest_entry("tiny", {"model.onnx": b"a newer graph", "tokenizer.json": b"{}"})
    with pytest.raises(ArtefactDamaged, match="--force"):
        Library(tmp_path, [FakeCatalogue(pinned)]).open("tiny")


def test_a_shipped_model_that_is_not_built_is_not_ready(tmp_path: Path) -> None:
    library = Library(tmp_path / "nowhere", [FakeCatalogue(manifest_entry("tiny", {}))])
    with pytest.raises(ModelNotReady, match="isotrope models build tiny"):
        library.open("tiny")
    assert library.installed() == {}
    assert list(library.shipped()) == ["tiny"]


def test_a_damaged_model_does_not_open(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny")
    (folder / "model.onnx").write_bytes(b"no graph, only bytez")
    with pytest.raises(ArtefactDamaged):
        Library(tmp_path, []).open("tiny")


def test_an_unknown_model_is_named_beside_the_known(tmp_path: Path) -> None:
    write_model(tmp_path, "mine")
    library = Library(tmp_path, [FakeCatalogue(manifest_entry("tiny", {}))])
    with pytest.raises(UnknownModel, match=r"'other'\. Known are: mine, tiny"):
        library.open("other")


@pytest.mark.parametrize(
    "model_id",
    [
        "", ".", "..", "../models/tiny", "../outside", "a/../tiny", "tiny/", "./tiny", "/", "~",
        ".hidden", "tiny\0", "ti\ny", "\ud800", "tiny\\", "x" * 300, "é", "-tiny",
    ],
)  # fmt: skip
def test_no_id_reaches_outside_the_folder(tmp_path: Path, model_id: str) -> None:
    models = tmp_path / "models"
    write_model(models, "tiny")
    write_model(models, ".hidden")
    write_model(tmp_path, "outside")
    (models / "manifest.json").write_text(json.dumps(manifest_entry("models", {})))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest_entry("above", {})))
    with pytest.raises(UnknownModel) as caught:
        Library(models, []).open(model_id)
    assert len(caught.value.detail) < 200


def test_installed_lists_whole_folders_only(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    write_model(tmp_path, ".tiny-being-built")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    (tmp_path / "a file").write_text("")
    assert list(Library(tmp_path, []).installed()) == ["tiny"]


def test_a_shipped_manifest_that_is_unreadable_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(ArtefactDamaged, match="the shipped manifest"):
        Library(tmp_path, [FakeCatalogue({"id": "tiny"})])


def test_only_a_shipped_model_has_a_catalogue(tmp_path: Path) -> None:
    catalogue = FakeCatalogue(manifest_entry("tiny", {}))
    library = Library(tmp_path, [catalogue])
    assert library.catalogue_of("tiny") is catalogue
    with pytest.raises(UnknownModel, match="Shipped are: tiny"):
        library.catalogue_of("mine")


def test_the_project_s_own_catalogue_is_found() -> None:
    shipped = Library(Path("nowhere"), load_catalogues()).shipped()
    assert {"all-MiniLM-L6-v2", "multilingual-e5-small", "use-multilingual-3"} <= set(shipped)


def test_a_bundled_model_is_there_without_being_built(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "package", "tiny")
    catalogue = FakeCatalogue(entry_of(folder), folders={"tiny": folder})
    library = Library(tmp_path / "models", [catalogue])
    assert library.open("tiny")[0] == folder
    assert list(library.installed()) == ["tiny"]
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ArtefactDamaged, match=r"tiny: model\.onnx"):
        library.open("tiny")


def test_what_was_built_goes_before_what_is_bundled(tmp_path: Path) -> None:
    bundled = write_model(tmp_path / "package", "tiny")
    built = write_model(tmp_path / "models", "tiny")
    catalogue = FakeCatalogue(entry_of(bundled), folders={"tiny": bundled})
    library = Library(tmp_path / "models", [catalogue])
    assert library.open("tiny")[0] == built
