"""Prompts are healed with a decoder's own tokenizer and its own probabilities."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from models import catalogue
from service.runtime.decoders.feeds import Reading
from service.runtime.decoders.forward import begin, forward
from service.runtime.decoders.graph import Giving, open_graph, read_graph
from service.runtime.decoders.healing import Healer, heal
from service.runtime.decoders.opened import Decoder, Family
from service.runtime.decoders.tokenizers import ByteTokenizer, open_decoder_tokenizer
from service.runtime.manifest import read_manifest
from service.runtime.session import SessionOptions
from service.settings import ProviderPolicy
from tests.support.byte_pairs import trained_tokenizer
from tests.support.llama_files import tiny_llama


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    place = tmp_path_factory.mktemp("models")
    folder = place / "tiny"
    folder.mkdir()
    source = tiny_llama().write(place / "tiny.gguf")
    catalogue.adopt(source, folder, model_id="tiny", progress=lambda _stage, _done, _all: None)
    manifest = read_manifest(folder)
    assert manifest.family is not None
    tokenizer = open_decoder_tokenizer(folder, manifest.family)
    chosen = Family(folder, manifest, manifest.family, tokenizer).variant(None)
    path = folder / chosen.file
    options = SessionOptions(("cpu",), ProviderPolicy.CPU, threads_per_run=1)
    graph = open_graph(path, read_graph(path, Giving.CONTINUATION), options)
    return Decoder(manifest, manifest.family, chosen, tokenizer, graph)


@pytest.fixture(scope="module")
def healer(decoder: Decoder) -> Healer:
    return Healer(decoder.tokenizer)


def chances_after(decoder: Decoder, ids: list[int]) -> np.ndarray:
    row = np.array([ids], dtype=np.int64)
    logits = forward(decoder, row, begin(decoder), Reading(), logits_from=len(ids) - 1).logits
    return np.asarray(log_softmax(logits[0, -1].astype(np.float64)))


@pytest.mark.parametrize("prompt", ["the order sess", "a model of caf", "it runs over ", "see 😀"])
def test_the_first_piece_follows_the_law_of_all_covers(
    prompt: str, decoder: Decoder, healer: Healer
) -> None:
    ids = decoder.tokenizer.encode(prompt)
    healed = heal(decoder, healer, ids, Reading())
    removed = b"".join(map(decoder.tokenizer.token_bytes, ids[len(healed.ids) :]))
    assert removed
    stems = healer.reopen(ids).stems
    assert stems is not None
    masses: dict[int, float] = defaultdict(float)

    def walk(stem: tuple[int, ...], rest: bytes, weight: float) -> None:
        row = chances_after(decoder, [*healed.ids, *stem])
        for piece, text in enumerate(healer.pieces.texts):
            longer, total = (*stem, piece), weight + row[piece]
            reaches = text == rest and longer in stems
            if reaches or (len(text) > len(rest) and text.startswith(rest)):
                masses[longer[0]] += float(np.exp(total))
            elif text and rest.startswith(text) and longer in stems:
                walk(longer, rest[len(text) :], total)

    walk((), removed, 0.0)
    chances = softmax(healed.healing.weigh(healed.step.logits[0, -1]))
    whole = sum(masses.values())
    for piece in np.flatnonzero(chances > 1e-3):
        # stems that were not asked about hold a thousandth at most
        assert chances[piece] == pytest.approx(masses[int(piece)] / whole, rel=5e-3)


def test_what_nothing_crosses_stays_as_it_is(decoder: Decoder, healer: Healer) -> None:
    end = len(healer.pieces.texts) - 1
    ids = [*decoder.tokenizer.encode("the order"), end]
    healed = heal(decoder, healer, ids, Reading())
    assert healed.ids == tuple(ids)
    assert healed.healing.over
    assert (healed.asked, healed.dropped) == (0, 0.0)


def test_names_of_special_pieces_are_text_in_a_prompt(decoder: Decoder, healer: Healer) -> None:
    end = len(healer.pieces.texts) - 1
    ids = decoder.tokenizer.encode("the <end")
    assert end not in ids
    assert healer.pieces.texts[end] == b""
    healed = heal(decoder, healer, ids, Reading())
    if not healed.healing.over:
        assert end not in healed.healing.allowed().ids


def test_bytes_are_never_open() -> None:
    healer = Healer(ByteTokenizer())
    found = healer.reopen(list("naïve caf".encode()))
    assert (found.kept, found.removed) == (10, b"")


def test_the_pieces_are_those_of_the_tokenizer(healer: Healer) -> None:
    assert healer.pieces.texts == trained_tokenizer().pieces.texts
