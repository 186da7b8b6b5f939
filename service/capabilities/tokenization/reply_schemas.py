"""Define the answers of this room."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Answered(BaseModel):
    """Say which tokenizer answered."""

    tokenizer: str
    tokenizer_sha256: str


class TokenizerCard(BaseModel):
    """Describe one tokenizer."""

    id: str
    kind: str = Field(description="`unigram`, `bpe` or `wordpiece`; null until it is first used.")
    family: str
    pieces: int
    sha256: str
    bytes: int
    uploaded: bool
    created: str


class TokenizerSummary(BaseModel):
    """Name one tokenizer in the list; what is known only after opening is null."""

    id: str
    sha256: str
    uploaded: bool
    default: bool
    kind: str | None
    family: str | None
    pieces: int | None


class TokenizerList(BaseModel):
    """List the tokenizers."""

    tokenizers: list[TokenizerSummary]


class EncodedText(BaseModel):
    """Hold one segmentation; what was not asked for is left out."""

    ids: list[int] | None = None
    pieces: list[str] | None = None
    offsets: list[tuple[int, int]] | None = Field(None, description="In characters of the text.")
    byte_offsets: list[tuple[int, int]] | None = Field(None, description="In bytes of UTF-8.")
    normalized: str | None = None
    log_prob: float | None = None
    log_partition: float | None = None


class EncodeReply(Answered):
    """Hold the best segmentations, in the order of the texts."""

    results: list[EncodedText]
    usage: dict[str, int]


class DecodeReply(Answered):
    """Hold texts, in the order of the lists of ids."""

    texts: list[str]


class SampledPath(BaseModel):
    """Hold one path; what was not asked for is left out."""

    ids: list[int] | None = None
    pieces: list[str] | None = None
    offsets: list[tuple[int, int]] | None = None
    byte_offsets: list[tuple[int, int]] | None = None
    log_prob: float | None = None
    inclusion_log_prob: float | None = None


class SampledText(BaseModel):
    """Hold the paths of one text."""

    log_partition: float | None = None
    entropy: float | None = None
    expected_tokens: float | None = None
    samples: list[SampledPath]


class FlatArray(BaseModel):
    """Hold one array as base64 of little-endian numbers."""

    dtype: str
    shape: list[int]
    data: str


class FlatPaths(BaseModel):
    """Hold all paths, text by text; path k of them is `ids[offsets[k] : offsets[k + 1]]`."""

    ids: FlatArray
    offsets: FlatArray
    log_probs: FlatArray | None = None


class SampleReply(Answered):
    """Hold the samples; `results` for lists, `flat` for flat arrays."""

    seed: int
    method: str
    results: list[SampledText] | None = None
    flat: FlatPaths | None = None
    usage: dict[str, int]


class WeighedPiece(BaseModel):
    """Hold one piece of the lattice and the chance that a path uses it there."""

    id: int
    piece: str
    start: int = Field(description="First character, in the normalised text.")
    end: int
    probability: float


class RankedPath(BaseModel):
    """Hold one of the best paths."""

    ids: list[int]
    pieces: list[str]
    log_prob: float | None


class PathScore(BaseModel):
    """Hold what a given segmentation is worth."""

    log_prob: float
    probability: float


class Analysis(BaseModel):
    """Hold all that the lattice of one text says."""

    normalized: str
    log_partition: float
    entropy: float = Field(description="Of the law over paths, in nats.")
    expected_tokens: float
    boundary_marginals: list[float] = Field(
        description="Chance of a cut before each character, and at the end."
    )
    pieces: list[WeighedPiece]
    nbest: list[RankedPath]
    score: PathScore | None = None


class AnalyzeReply(Answered):
    """Hold one analysis a text."""

    alpha: float
    results: list[Analysis]


class Candidate(BaseModel):
    """Hold one piece that may stand first after the stable part."""

    id: int
    piece: str
    log_prob: float | None = Field(description="Given the text; null where pieces have no law.")
    crosses: bool = Field(description="Whether it reaches beyond the end of the text.")


class ContinueReply(Answered):
    """Hold the stable part of a text and what may follow it."""

    stable_ids: list[int]
    stable_text: str
    suffix: str = Field(description="The text taken back: what follows must begin with it.")
    removed_tokens: int
    candidates: list[Candidate]
    allowed_ids: list[int] | None = Field(
        description="Ids that may come first; null where the suffix is empty and any may."
    )
