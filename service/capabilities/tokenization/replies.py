"""Shape answers: numpy all the way, text only where it was asked for."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Iterator

import numpy as np

from service.capabilities.tokenization.collection import Opened
from service.capabilities.tokenization.drawing import Drawn, piece_starts
from service.numerics.dtypes import Bools, Bytes8, Ids32, Ids64
from service.numerics.lattice.linear import UNKNOWN
from service.numerics.lattice.paths import Paths
from service.runtime.tokenizers.base import Prepared

Reply = dict[str, object]
_MARK = "\x01"  # stands before a word of WordPiece; no text of anybody's


def path_slices(paths: Paths) -> list[slice | None]:
    """Return where each path lies in the flat arrays, None for one that does not exist."""
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.maximum(paths.counts, 0))])
    bounds = begins.tolist()
    return [
        slice(bounds[number], bounds[number + 1]) if count >= 0 else None
        for number, count in enumerate(paths.counts.tolist())
    ]


def character_starts(data: Bytes8) -> Bools:
    """Return for each byte of UTF-8, and for the end, whether a character begins there."""
    starts = np.ones(len(data) + 1, np.bool_)
    starts[:-1] = data & 0xC0 != 0x80  # noqa: PLR2004 - marks the bytes inside a character
    return starts


class PathWriter:
    """Write paths of prepared texts as the request wants them.

    Args:
        opened: the tokenizer.
        prepared: the texts, aligned where offsets are wanted.
        texts: the originals.
        fields: what each path holds.
    """

    def __init__(
        self, opened: Opened, prepared: Prepared, texts: list[str], fields: Collection[str]
    ) -> None:
        self._opened = opened
        self._prepared = prepared
        self._texts = texts
        self._fields = fields
        self._starts = prepared.segments.starts.tolist()
        self._characters: dict[int, Ids64] = {}

    def write(self, text: int, ids: Ids32, ends: Ids32) -> Reply:
        """Return one path of a text."""
        path: Reply = {}
        if "ids" in self._fields:
            path["ids"] = ids
        if "pieces" in self._fields:
            path["pieces"] = self.pieces(text, ids, ends)
        if "byte_offsets" in self._fields or "offsets" in self._fields:
            spans = self._byte_spans(text, ends)
            if "byte_offsets" in self._fields:
                path["byte_offsets"] = spans
            if "offsets" in self._fields:
                path["offsets"] = np.ascontiguousarray(self._character_places(text)[spans])
        return path

    def pieces(self, text: int, ids: Ids32, ends: Ids32) -> list[str]:
        """Return pieces as people read them; an unknown one is the text that it stands for."""
        names = self._opened.pieces
        found = [names[each] for each in ids.tolist()]
        unknown = int(self._opened.tokenizer.vocabulary.rules[UNKNOWN])
        starts = piece_starts(ends)
        for place in np.flatnonzero(ids == unknown).tolist():
            found[place] = self.surface(text, int(starts[place]), int(ends[place]))
        return found

    def normalized(self, text: int) -> str:
        """Return a text as the pieces see it."""
        return self.surface(text, 0, self._starts[text + 1] - self._starts[text])

    def surface(self, text: int, start: int, end: int) -> str:
        """Return the normalised text between two places."""
        origin = self._starts[text]
        raw = self._prepared.segments.data[origin + start : origin + end].tobytes()
        return raw.decode("utf-8", "replace").replace(_MARK, "")

    def _byte_spans(self, text: int, ends: Ids32) -> Ids32:
        origin = self._starts[text]
        spans = np.zeros((len(ends), 2), np.int32)
        if len(ends):
            spans[:, 0] = self._prepared.origin_starts[origin + piece_starts(ends)]
            spans[:, 1] = self._prepared.origin_stops[origin + ends - 1]
        return spans

    def _character_places(self, text: int) -> Ids64:
        """Return the character that each byte of the original belongs to, and of its end."""
        found = self._characters.get(text)
        if found is None:
            raw = np.frombuffer(self._texts[text].encode(), dtype=np.uint8)
            found = np.cumsum(character_starts(raw), dtype=np.int64) - 1
            self._characters = {text: found}
        return found


def write_samples(
    drawn: Drawn, writer: PathWriter, fields: Collection[str], samples: int
) -> Iterator[tuple[Reply, list[Reply]]]:
    """Yield what belongs to each text, and its samples."""
    slices = path_slices(drawn.paths)
    for text in range(len(drawn.log_partitions)):
        head: Reply = {}
        for name, values in (
            ("log_partition", drawn.log_partitions),
            ("entropy", drawn.entropies),
            ("expected_tokens", drawn.expected),
        ):
            if name in fields:
                head[name] = float(values[text])
        rows: list[Reply] = []
        for number in range(text * samples, (text + 1) * samples):
            where = slices[number]
            if where is None:
                break  # the text has fewer paths
            row = writer.write(text, drawn.paths.ids[where], drawn.paths.ends[where])
            if "log_prob" in fields:
                row["log_prob"] = min(0.0, float(drawn.log_probs[number]))
            if "inclusion_log_prob" in fields:
                row["inclusion_log_prob"] = float(drawn.inclusion[number])
            rows.append(row)
        yield head, rows


def flat_arrays(parts: list[Drawn], *, with_law: bool) -> Reply:
    """Return all paths as three arrays in base64."""
    ids = np.concatenate([part.paths.ids for part in parts])
    counts = np.concatenate([part.paths.counts for part in parts])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.maximum(counts, 0))])
    flat: Reply = {"ids": _encoded(ids, "int32"), "offsets": _encoded(offsets, "int64")}
    if with_law:
        log_probs = np.concatenate([part.log_probs for part in parts])
        log_probs[~np.isfinite(log_probs)] = -math.inf
        flat["log_probs"] = _encoded(np.minimum(log_probs, 0.0), "float64")
    return flat


def flat_table(parts: list[Drawn]) -> bytes:
    """Return a `.npy` file of (ids, 2) int32: the path that each id belongs to, and the id."""
    ids = np.concatenate([part.paths.ids for part in parts])
    counts = np.maximum(np.concatenate([part.paths.counts for part in parts]), 0)
    owners = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    buffer = io.BytesIO()
    table = np.stack([owners, ids], axis=1).astype("<i4")
    np.save(buffer, np.ascontiguousarray(table), allow_pickle=False)
    return buffer.getvalue()


def _encoded(array: np.ndarray, dtype: str) -> Reply:
    little = np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": dtype, "shape": list(array.shape), "data": data}
