"""Tell what kind of a user's model lies at a path, and adopt it if it is a decoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from models.adoption import find_graph, read_object
from models.errors import RecipeError
from models.own_decoders.cached_graph import has_cache
from models.own_decoders.gguf_family import adopt_gguf
from models.own_decoders.onnx_folder import adopt_export

Progress = Callable[[str, int, int], None]
_ENDING, _MAGIC = ".gguf", b"GGUF"


def is_decoder(source: Path) -> bool:
    """Return whether `source` is, or says that it is, a language model."""
    return _gguf(source) is not None or (source.is_dir() and _is_export(source))


def adopt_decoder(
    source: Path, folder: Path, *, model_id: str, progress: Progress
) -> dict[str, object]:
    """Write a language model's files into `folder`; return the entry that fits them.

    Args:
        source: a GGUF file, a folder with one, or an exported folder.
        folder: an existing, empty folder.
        model_id: id of the new entry.
        progress: called with a stage's name, the steps done and the steps in all.

    Raises:
        RecipeError: a file is missing or cannot be used; the message names it.
    """
    file = _gguf(source)
    if file is not None:
        return adopt_gguf(file, folder, model_id=model_id, progress=progress)
    return adopt_export(source, folder, model_id=model_id, progress=progress)


def _gguf(source: Path) -> Path | None:
    """Return the GGUF file that is meant, or None.

    Raises:
        RecipeError: a folder holds several.
    """
    if source.is_dir():
        found = sorted(source.glob(f"*{_ENDING}"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            message = f"{source} holds {len(found)} GGUF files ({names}); name one of them"
            raise RecipeError(message)
        return found[0] if found else None
    if not source.is_file():
        return None
    with source.open("rb") as stream:
        begins = stream.read(len(_MAGIC)) == _MAGIC
    return source if begins or source.suffix == _ENDING else None


def _is_export(source: Path) -> bool:
    named = read_object(source / "config.json").get("architectures")
    if isinstance(named, list) and any(str(each).endswith("ForCausalLM") for each in named):
        return True
    try:
        return has_cache(onnx.load(find_graph(source), load_external_data=False))
    except Exception:  # noqa: BLE001 - whatever it is, the adoption of encoders says so better
        return False
