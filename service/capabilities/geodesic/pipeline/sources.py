"""Turn texts and vectors into the rows that distances are measured between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.embedding.embedder import Embedded, Embedder, EmbeddingOptions
from service.embedding.transform import require_origin
from service.embedding.transforms import Transforms
from service.numerics.dtypes import Matrix32, Progress


@dataclass(frozen=True, slots=True)
class Sources:
    """Embed texts, and put a whitening on vectors where one is wanted.

    Attributes:
        embedder: texts to vectors.
        transforms: whitenings.
    """

    embedder: Embedder
    transforms: Transforms

    async def name(self, transform: str | None) -> str | None:
        """Return the id of a transform with its number, None for none.

        Raises:
            UnknownArtefact: there is no such transform.
        """
        return None if transform is None else (await self.transforms.find(transform)).id

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None,
        transform: str | None,
        deadline: float,
        progress: Progress,
    ) -> Embedded:
        """Return the embedding of each text, transformed.

        Args:
            texts: any number.
            model: encoder id, None for the default, or for the transform's.
            transform: id of a whitening, None for none.
            deadline: monotonic seconds.
            progress: told the stage `embed`.

        Raises:
            ServiceError: as the embedder and the transform do.
        """
        options = EmbeddingOptions()
        if transform is None:
            return await self.embedder.embed_all(
                texts, model=model, options=options, deadline=deadline, progress=progress
            )
        found = await self.transforms.find(transform)
        origin = require_origin(found)
        encoder = model or origin.model
        await self.transforms.require_encoder(found, encoder, deadline=deadline)
        raw = replace(options, pooling=origin.pooling, normalize=False)
        embedded = await self.embedder.embed_all(
            texts, model=encoder, options=raw, deadline=deadline, progress=progress
        )
        rows = await self.transforms.apply(embedded.vectors, found)
        return replace(embedded, vectors=rows)

    async def transformed(self, vectors: Matrix32, transform: str | None) -> Matrix32:
        """Return vectors after a whitening, or as they are."""
        if transform is None:
            return vectors
        return await self.transforms.apply(vectors, await self.transforms.find(transform))
