"""Find tokenizers: those that came with models, and those that users brought."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from service.capabilities.tokenization.settings import TokenizationSettings
from service.errors import Conflict, PayloadTooLarge, UnknownModel
from service.numerics.dtypes import Vector64
from service.runtime.engine import Engine
from service.runtime.manifest import TOKENIZER
from service.runtime.tokenizers.base import PieceTokenizer
from service.runtime.tokenizers.opening import open_piece_tokenizer
from service.stores.versions import Idempotency, Version, Versions

_FILES = ("tokenizer.model", "tokenizer.json")
_LOOSE = (".model", ".json")
_BLOB = "tokenizer"
_KEPT_WEIGHTS = 8  # α values a tokenizer, 256 KB each at 32,000 pieces


@dataclass(frozen=True)
class Opened:
    """Hold a tokenizer that answers.

    Attributes:
        id: name that requests use.
        sha256: digest of its file.
        tokenizer: the tokenizer.
    """

    id: str
    sha256: str
    tokenizer: PieceTokenizer
    _weights: dict[float, Vector64] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def pieces(self) -> list[str]:
        """Return every piece as people read it, by id."""
        return [self.tokenizer.piece(each) for each in range(self.tokenizer.size)]

    def weights(self, alpha: float) -> Vector64:
        """Return exp(α l); the last few α are kept."""
        with self._lock:
            found = self._weights.get(alpha)
            if found is None:
                found = self.tokenizer.vocabulary.weights(alpha)
                if len(self._weights) == _KEPT_WEIGHTS:
                    self._weights.pop(next(iter(self._weights)))
                self._weights[alpha] = found
            return found


@dataclass(frozen=True, slots=True)
class Listed:
    """Describe a tokenizer that is not opened.

    Attributes:
        id: name that requests use.
        sha256: digest of its file, or of its model's files.
        uploaded: whether a user brought it.
        metadata: what is known about it.
    """

    id: str
    sha256: str
    uploaded: bool
    metadata: dict[str, object]


class Collection:
    """Open tokenizers on demand and keep the last ones.

    Args:
        engine: compute threads, and the library of models.
        versions: where uploaded tokenizers lie.
        settings: limits, and the default.
    """

    def __init__(self, engine: Engine, versions: Versions, settings: TokenizationSettings) -> None:
        self._engine = engine
        self._versions = versions
        self._settings = settings
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Opened]] = {}

    async def all(self) -> list[Listed]:
        """Return every tokenizer, those of models first."""
        with_models = await self._engine.compute(self._in_models)
        uploaded = [
            Listed(each.id, str(each.metadata["file_sha256"]), True, dict(each.metadata))
            for each in await self._versions.list()
        ]
        return with_models + uploaded

    async def open(self, tokenizer_id: str | None) -> Opened:
        """Return a tokenizer, opening it first where it is not.

        Raises:
            UnknownModel: there is none of that name among the models.
            UnknownArtefact: there is none of that name among the uploaded ones, or it was deleted.
        """
        name = tokenizer_id or self._settings.default_tokenizer
        if name in self._opened:
            self._opened.move_to_end(name)
            return self._opened[name]
        if "@" not in name:
            source = await self._engine.compute(self._find_in_models, name)
            if source is not None:
                return await self._load(name, name, source)
        version = await self._versions.find(name)
        content = None
        if version.uid not in self._opened:
            content = await self._versions.load(version, _BLOB)
        return await self._load(version.uid, version.id, lambda: content or b"")

    async def add(self, name: str, content: bytes, idempotency: Idempotency | None) -> Version:
        """Open an uploaded file and, where that works, keep it as a new version.

        Raises:
            PayloadTooLarge: the file is larger than the limit.
            InvalidInput: it is no tokenizer that can be used; nothing is kept.
            Conflict: the name is that of a model.
        """
        if len(content) > self._settings.max_upload_bytes:
            raise PayloadTooLarge(
                f"The file has {len(content)} bytes and {self._settings.max_upload_bytes} are read "
                "at most."
            )
        if await self._engine.compute(self._find_in_models, name) is not None:
            raise Conflict(f"{name!r} is the tokenizer of a model; choose another name.")
        tokenizer = await self._engine.compute(open_piece_tokenizer, content)
        metadata = {
            "kind": tokenizer.kind.value,
            "family": tokenizer.family,
            "pieces": tokenizer.size,
            "bytes": len(content),
            "file_sha256": sha256(content).hexdigest(),
        }
        return await self._versions.create(
            name, metadata=metadata, blobs={_BLOB: content}, idempotency=idempotency
        )

    async def delete(self, tokenizer_id: str) -> None:
        """Delete an uploaded tokenizer.

        Raises:
            Conflict: it belongs to a model.
            UnknownArtefact: there is none.
        """
        if "@" not in tokenizer_id and (
            await self._engine.compute(self._find_in_models, tokenizer_id) is not None
        ):
            raise Conflict(f"{tokenizer_id!r} belongs to a model and is not deleted here.")
        version = await self._versions.delete(tokenizer_id)
        self._opened.pop(version.uid, None)

    async def _load(self, key: str, name: str, read: Callable[[], bytes]) -> Opened:
        found = self._opened.get(key)
        if found is not None:
            self._opened.move_to_end(key)
            return found
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._engine.compute(_open, name, read))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._keep(key, done))
        # Shielded: a client that leaves does not stop what others wait for.
        return await asyncio.shield(task)

    def _keep(self, key: str, task: asyncio.Task[Opened]) -> None:
        self._loading.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._opened[key] = task.result()
        while len(self._opened) > self._settings.open_tokenizers:
            self._opened.popitem(last=False)

    def _in_models(self) -> list[Listed]:
        library = self._engine.library
        known = {
            name: manifest
            for name, manifest in (library.shipped() | library.installed()).items()
            if set(manifest.files) & set(_FILES)
        }
        installed = library.installed()
        listed = [
            Listed(name, _file_sha256(known[name].files), False, {})
            for name in sorted(known)
            if name in installed or known[name].kind == TOKENIZER
        ]
        return listed + [
            Listed(path.stem, sha256(path.read_bytes()).hexdigest(), False, {})
            for path in _loose_files(library.folder)
            if path.stem not in known
        ]

    def _find_in_models(self, name: str) -> Callable[[], bytes] | None:
        """Return what reads the tokenizer of a model, None where there is no such model."""
        library = self._engine.library
        installed, shipped = name in library.installed(), library.shipped().get(name)
        if not installed and shipped is not None and shipped.kind == TOKENIZER:
            # Small, and part of the installation: it needs no building before it is used.
            return lambda: _build(library.catalogue_of(name).build, name)
        if installed or shipped is not None:
            return lambda: _read_folder(library.open(name)[0], name)
        for path in _loose_files(library.folder):
            if path.stem == name:
                return path.read_bytes
        return None


def _open(name: str, read: Callable[[], bytes]) -> Opened:
    content = read()
    return Opened(name, sha256(content).hexdigest(), open_piece_tokenizer(content))


def _read_folder(folder: Path, name: str) -> bytes:
    for file in _FILES:
        if (folder / file).is_file():
            return (folder / file).read_bytes()
    raise UnknownModel(f"The model {name!r} has no tokenizer that can be used.")


def _build(build: Callable[..., None], name: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="isotrope-tokenizer-") as scratch:
        folder = Path(scratch)
        build(name, folder, progress=lambda _stage, _done, _total: None)
        return _read_folder(folder, name)


def _loose_files(folder: Path) -> list[Path]:
    """Return the tokenizer files that lie in the models folder itself, `name.model` or `.json`."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in _LOOSE and path.is_file())


def _file_sha256(files: object) -> str:
    assert isinstance(files, dict)
    return str(next(files[name][0] for name in _FILES if name in files))
