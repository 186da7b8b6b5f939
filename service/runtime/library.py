"""Find the models that are installed, and the pins of those that the project ships."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

from service.errors import ArtefactDamaged, ModelNotReady, UnknownModel
from service.runtime.manifest import Manifest, parse_manifest, read_manifest, verify_files

ENTRY_POINT_GROUP = "isotrope.catalogue"
Progress = Callable[[str, int, int], None]
# A model's id is also its folder's name: no separator, no leading dot, short enough for any disk.
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHOWN_CHARACTERS = 60


class Catalogue(Protocol):
    """Say which models can be built, and build them; the package `models` is one."""

    def manifest(self) -> Mapping[str, object]:
        """Return `{"models": [entry, …]}`, every file pinned."""
        ...

    def build(self, model_id: str, folder: Path, *, progress: Progress) -> None:
        """Write the model's files into an empty folder."""
        ...

    def bundled(self, model_id: str) -> Path | None:
        """Return the folder of a model that travels with the package; None where it is built."""
        ...

    def adopt(self, source: Path, folder: Path, *, model_id: str, progress: Progress) -> None:
        """Turn an exported folder of somebody else into one of ours."""
        ...


def is_model_id(text: str) -> bool:
    """Return whether a text may name a model: letters, digits, `.`, `_`, `-`, at most 128."""
    return _MODEL_ID.fullmatch(text) is not None


def load_catalogues() -> list[Catalogue]:
    """Return every installed catalogue; another distribution may register its own."""
    found = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    return [cast(Catalogue, point.load()) for point in found]


class Library:
    """Look models up in a folder, and hold shipped ones to the pins of their catalogue.

    Args:
        folder: one sub-folder a model.
        catalogues: where the pins come from.
    """

    def __init__(self, folder: Path, catalogues: list[Catalogue]) -> None:
        self.folder = folder
        self._shipped: dict[str, tuple[Manifest, Catalogue]] = {}
        for catalogue in catalogues:
            entries = cast(list[Mapping[str, object]], catalogue.manifest()["models"])
            for entry in entries:
                manifest = parse_manifest(entry, "the shipped manifest")
                self._shipped[manifest.id] = (manifest, catalogue)

    def shipped(self) -> dict[str, Manifest]:
        """Return the models that can be built, by id."""
        return {name: manifest for name, (manifest, _) in self._shipped.items()}

    def catalogue_of(self, model_id: str) -> Catalogue:
        """Return the catalogue that builds a model.

        Raises:
            UnknownModel: no catalogue ships it.
        """
        if model_id not in self._shipped:
            known = ", ".join(sorted(self._shipped))
            raise UnknownModel(f"{model_id!r} is not shipped. Shipped are: {known}.")
        return self._shipped[model_id][1]

    def adopter(self) -> Catalogue:
        """Return a catalogue that adopts models of other origin.

        Raises:
            UnknownModel: none is installed, which a broken installation explains.
        """
        for _, catalogue in self._shipped.values():
            return catalogue
        raise UnknownModel("No catalogue is installed that could adopt a model: install isotrope.")

    def installed(self) -> dict[str, Manifest]:
        """Return the models whose folder holds a readable manifest, and bundled ones, by id."""
        found = {
            name: manifest
            for name, (manifest, catalogue) in self._shipped.items()
            if catalogue.bundled(name) is not None
        }
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for folder in folders:
            if folder.name.startswith(".") or not folder.is_dir():
                continue  # a build that is under way, or was cut off
            try:
                found[folder.name] = read_manifest(folder)
            except (ArtefactDamaged, ModelNotReady):
                continue  # listed by `verify`, which says what is wrong with it
        return found

    def open(self, model_id: str) -> tuple[Path, Manifest]:
        """Return a model's folder and manifest after checking every byte of its files.

        Raises:
            UnknownModel: neither installed nor shipped.
            ModelNotReady: shipped and not built yet.
            ArtefactDamaged: a file is not the pinned one.
        """
        folder, manifest = self.find(model_id)
        verify_files(folder, manifest)
        return folder, manifest

    def find(self, model_id: str) -> tuple[Path, Manifest]:
        """Return a model's folder and manifest; its files are still to be verified.

        Raises:
            UnknownModel: neither installed nor shipped.
            ModelNotReady: shipped and not built yet.
            ArtefactDamaged: its pins are not those of this version of the service.
        """
        folder = self.folder / model_id
        if not is_model_id(model_id) or (not folder.is_dir() and model_id not in self._shipped):
            known = ", ".join(sorted({*self.installed(), *self._shipped}))
            raise UnknownModel(
                f"There is no model {model_id[:_SHOWN_CHARACTERS]!r}. Known are: {known}."
            )
        if model_id not in self._shipped:
            return folder, read_manifest(folder)
        pinned, catalogue = self._shipped[model_id]
        bundled = catalogue.bundled(model_id)
        if not folder.is_dir() and bundled is not None:
            return bundled, pinned
        manifest = read_manifest(folder)
        if pinned.files != manifest.files:
            raise ArtefactDamaged(
                f"{model_id} was built by another version: its files are not the pinned ones. "
                f"Run `isotrope models build {model_id} --force`."
            )
        return folder, manifest
