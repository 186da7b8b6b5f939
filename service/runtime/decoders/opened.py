"""Say what an opened decoder is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from service.errors import Fault, VariantNotAvailable
from service.numerics.attention.positions import RopeScheme
from service.runtime.decoders.graph import DecoderGraph
from service.runtime.decoders.tokenizers import DecoderTokenizer
from service.runtime.family import FamilyEntry, VariantEntry
from service.runtime.manifest import Manifest


class GraphForm(StrEnum):
    """Name which graph is meant: a variant's own, its windowed one, or the family's fast one."""

    PLAIN = "plain"
    WINDOWED = "windowed"
    SERVING = "serving"

    @classmethod
    def of(cls, rope: RopeScheme) -> GraphForm:
        """Return the form that a position scheme needs."""
        return cls.WINDOWED if rope.windowed else cls.PLAIN


@dataclass(frozen=True, slots=True)
class Family:
    """Hold a family whose tokenizer is open; no graph of it need be.

    Attributes:
        folder: where its files lie.
        manifest: what it is.
        entry: what the manifest says of decoders.
        tokenizer: texts to ids and back.
    """

    folder: Path
    manifest: Manifest
    entry: FamilyEntry
    tokenizer: DecoderTokenizer

    def variant(self, name: str | None, *, pointer: str = "/variant") -> VariantEntry:
        """Return a variant, the default one where none is named.

        Raises:
            VariantNotAvailable: the family lacks it.
        """
        chosen = self.entry.default_variant if name is None else name
        if chosen not in self.entry.variants:
            known = ", ".join(self.entry.variants)
            raise VariantNotAvailable(
                f"{self.manifest.id} has no variant {chosen[:60]!r}. It has: {known}.",
                faults=(Fault(pointer, f"is {chosen[:60]!r}"),),
            )
        return self.entry.variants[chosen]

    def file(self, variant: VariantEntry, form: GraphForm) -> str:
        """Return the file of a graph.

        Raises:
            VariantNotAvailable: there is no graph of that form.
        """
        if form is GraphForm.PLAIN:
            return variant.file
        if form is GraphForm.SERVING:
            return self._serving()
        if variant.windowed is None:
            raise VariantNotAvailable(
                f"The variant {variant.name!r} of {self.manifest.id} has no graph for position "
                "schemes with a window. Use another variant, or ntk_mixed.",
                faults=(Fault("/rope", f"is not available for {variant.name!r}"),),
            )
        return variant.windowed

    def _serving(self) -> str:
        if self.entry.serving is None:
            raise VariantNotAvailable(f"{self.manifest.id} has no serving graph.")
        return self.entry.serving


@dataclass(frozen=True, slots=True)
class Decoder:
    """Hold one variant of a language model, ready to run.

    Attributes:
        manifest: what the family is.
        family: what the manifest says of decoders.
        variant: what it says of this variant.
        tokenizer: texts to ids and back.
        graph: ids to logits.
    """

    manifest: Manifest
    family: FamilyEntry
    variant: VariantEntry
    tokenizer: DecoderTokenizer
    graph: DecoderGraph

    @property
    def sha256(self) -> str:
        """Return the digest over every file of the family."""
        return self.manifest.sha256
