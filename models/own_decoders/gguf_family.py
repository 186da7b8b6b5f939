"""Make a family of attention variants out of a GGUF file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

from models.decoder.body import decoder_graph
from models.decoder.conversions import Basis, Latent, Pooled, Repeated
from models.decoder.description import Form, cache_shapes
from models.decoder.packed import PackedSource, PackedWeights
from models.decoder.serving import serving_graph
from models.decoder.source import Source
from models.decoder.storage import DataFile, write_graph
from models.errors import RecipeError
from models.gguf.llama import Llama, packed_weights
from models.gguf.reader import GgufFile, parse_gguf
from models.own_decoders.entry import Facts, describe_entry, own_formula, variant
from models.own_decoders.gguf_facts import identity_fits, read_facts
from models.own_decoders.gguf_source import HEAD, TABLE, GgufArrays, GgufSource
from models.own_decoders.gguf_tokenizer import tokenizer_json
from models.own_decoders.trial import open_graph, try_decoder

Progress = Callable[[str, int, int], None]
_WEIGHTS, _BASES = "weights.bin", "bases.bin"
_SERVING = "serving"
_FOUR_BITS = ("Q4_0", "Q4_1")
_EOS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")


@dataclass(frozen=True, slots=True)
class _Planned:
    """Hold the form of one variant's graph, and how its source is made from the native one."""

    form: Form
    wrap: Callable[[Source], Source]
    lossy: bool = False


def adopt_gguf(
    source: Path, folder: Path, *, model_id: str, progress: Progress
) -> dict[str, object]:
    """Write graphs, weights and tokenizer into `folder`; return the entry that fits them.

    Args:
        source: the file.
        folder: an existing, empty folder.
        model_id: id of the new entry.
        progress: called with a stage's name, the steps done and the steps in all.

    Raises:
        RecipeError: the file is damaged or holds another kind of model; the message names what.
    """
    progress("read", 0, 1)
    with source.open("rb") as stream:
        if not source.stat().st_size:
            message = f"{source} is empty"
            raise RecipeError(message)
        # Kept open by the views into it, for as long as they live.
        file = parse_gguf(memoryview(mmap(stream.fileno(), 0, access=ACCESS_READ)))
    llama = read_facts(file)
    tokenizer = tokenizer_json(file, vocabulary=llama.sizes.vocabulary)
    facts = _facts(file, llama)
    progress("read", 1, 1)
    planned = _plan(llama, bases := DataFile(_BASES))
    native = next(iter(planned))
    _write(file, llama, planned, folder, bases=bases, progress=progress)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    progress("try", 0, 1)
    tolerance = try_decoder(
        folder / f"{native}.onnx", vocabulary=llama.sizes.vocabulary, rope_base=llama.rope_base
    )
    serving = f"{_SERVING}.onnx" if _is_packed(file) else None
    if serving:
        open_graph(folder / serving)
    progress("try", 1, 1)
    return describe_entry(
        facts, model_id=model_id, source=source, folder=folder,
        variants=_variants(llama, planned), default_variant=native, serving=serving,
        tolerance=tolerance,
    )  # fmt: skip


def _plan(llama: Llama, bases: DataFile) -> dict[str, _Planned]:
    """Return the variants by name, the file's own first."""
    sizes, groups = llama.sizes, llama.kv_heads
    scale = 1 / float(np.sqrt(sizes.head_dim))
    own = own_formula(sizes.q_heads, groups)
    taps = frozenset(range(sizes.layers))
    planned = {own: _Planned(Form(own, groups, scale, tapped=taps), lambda native: native)}  # type: ignore[arg-type]
    if own != "mha":
        planned["mha"] = _Planned(
            Form("mha", sizes.q_heads, scale),
            lambda native: Repeated(native, sizes=sizes, kv_heads=groups),
        )
    if own != "mqa":
        planned["mqa"] = _Planned(
            Form("mqa", 1, scale),
            lambda native: Pooled(native, sizes=sizes, kv_heads=groups),
            lossy=True,
        )
    if identity_fits(llama):
        rank = 2 * groups * sizes.head_dim
        same = Basis(np.eye(rank, dtype=np.float16), np.ones(rank, dtype=np.float32))
        layers = dict.fromkeys(range(sizes.layers), same)
        planned["mla"] = _Planned(
            Form("mla", groups, scale, kv_rank=rank),
            lambda native: Latent(
                native, sizes=sizes, kv_heads=groups, rank=rank,
                bases=layers, prefix="identity", file=bases,
            ),
        )  # fmt: skip
    return planned


def _write(
    file: GgufFile,
    llama: Llama,
    planned: Mapping[str, _Planned],
    folder: Path,
    *,
    bases: DataFile,
    progress: Progress,
) -> None:
    weights = DataFile(_WEIGHTS)
    packed = packed_weights(file, llama) if _is_packed(file) else None
    source = _native(file, packed, weights)
    native = next(iter(planned))
    forms = {name: (each.form, each.wrap) for name, each in planned.items()}
    own = planned[native]
    windowed = replace(own.form, reach="near_and_far", tapped=frozenset())
    forms[f"{native}.windowed"] = (windowed, own.wrap)
    graphs = {}
    for done, (name, (form, wrap)) in enumerate(forms.items()):
        progress("build", done, len(forms))
        graphs[name] = decoder_graph(name, sizes=llama.sizes, form=form, source=wrap(source()))
    if packed is not None:
        graphs[_SERVING] = serving_graph(
            _SERVING, sizes=llama.sizes, kv_heads=llama.kv_heads, weights=packed, file=weights
        )
    progress("build", len(forms), len(forms))
    weights.write(folder)
    if "mla" in planned:
        bases.write(folder)
    for name, graph in graphs.items():
        write_graph(graph, folder / f"{name}.onnx")


def _is_packed(file: GgufFile) -> bool:
    """Return whether all is in 4 bits and the one table in 8, as the serving graph needs it."""
    kinds = {
        tensor.kind
        for name, tensor in file.tensors.items()
        if len(tensor.shape) > 1 and name != TABLE
    }
    table = file.tensor(TABLE).kind
    return HEAD not in file.tensors and kinds <= {*_FOUR_BITS} and table == "Q8_0"


def _native(
    file: GgufFile, packed: PackedWeights | None, weights: DataFile
) -> Callable[[], Source]:
    """Return what makes the source of one graph: fused 4-bit matrices, or each in its own kind."""
    if packed is not None:
        return lambda: PackedSource(packed, file=weights)
    arrays = GgufArrays(file)
    return lambda: GgufSource(arrays, data=weights)


def _variants(llama: Llama, planned: Mapping[str, _Planned]) -> dict[str, object]:
    native = next(iter(planned))
    return {
        name: variant(
            name,
            formula=each.form.formula,
            kv_heads=None if each.form.kv_rank else each.form.kv_heads,
            kv_rank=each.form.kv_rank,
            cache_elements=sum(
                heads * width for heads, width in cache_shapes(llama.sizes, each.form).values()
            ),
            lossy=each.lossy,
            windowed=f"{name}.windowed.onnx" if name == native else None,
        )
        for name, each in planned.items()
    }


def _facts(file: GgufFile, llama: Llama) -> Facts:
    sizes, known = llama.sizes, file.metadata
    begins = known.get("tokenizer.ggml.add_bos_token", known.get("tokenizer.ggml.model") == "llama")
    eos = [found for key in _EOS if (found := _token(file, key, sizes.vocabulary)) is not None]
    return Facts(
        vocabulary=sizes.vocabulary,
        max_tokens=llama.max_tokens,
        layers=sizes.layers,
        hidden=sizes.hidden,
        q_heads=sizes.q_heads,
        head_dim=sizes.head_dim,
        rope_base=llama.rope_base,
        bos_id=_token(file, "tokenizer.ggml.bos_token_id", sizes.vocabulary) if begins else None,
        eos_ids=tuple(dict.fromkeys(eos)),
        chat_template=str(known.get("tokenizer.chat_template", "")),
        licence=str(known.get("general.license", "unknown")),
    )


def _token(file: GgufFile, key: str, vocabulary: int) -> int | None:
    """Return an id of the metadata, or None where the file names none.

    Raises:
        RecipeError: it is no id of the vocabulary.
    """
    if key not in file.metadata:
        return None
    number = file.number(key)
    if not isinstance(number, int) or not 0 <= number < vocabulary:
        message = f"GGUF metadata {key!r} is {number}, not one of {vocabulary} ids"
        raise RecipeError(message)
    return number
