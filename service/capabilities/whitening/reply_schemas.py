"""Define the bodies that this room answers with."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.capabilities.whitening.schemas import ShrinkageName


class SpectrumReply(BaseModel):
    """Sum up how the variance is spread over the axes."""

    largest: float
    smallest: float
    kept_share: float = Field(description="Share of the variance on the axes that are kept.")
    effective_rank: float = Field(description="exp of the entropy of the shares of variance.")
    isoscore: float = Field(description="1 where all axes vary alike, 0 on one line.")


class TransformCard(BaseModel):
    """Describe one version of a transform; it never changes."""

    id: str = Field(description="`name@version`, to be used as `transform`.")
    name: str
    version: int
    created: str
    beta: float
    gamma: float
    dimensions: int = Field(description="Axes that are kept.")
    input_dimensions: int = Field(description="Dimensions of the vectors that it takes.")
    shrinkage: ShrinkageName
    shrinkage_intensity: float = Field(description="How far the covariance was shrunk, 0 to 1.")
    samples: int
    floored_eigenvalues: int = Field(description="Axes of almost no variance, kept from growing.")
    spectrum: SpectrumReply
    model: str | None = Field(description="Null where vectors of unknown origin were given.")
    model_sha256: str | None
    pooling: str | None
    sha256: str = Field(description="Digest over everything that is stored.")


class SpectrumDetail(SpectrumReply):
    """Sum up a spectrum, and give it."""

    eigenvalues: list[float] = Field(description="Variance on each axis, falling.")


class TransformDetail(TransformCard):
    """Describe one version, its eigenvalues included."""

    spectrum: SpectrumDetail


class TransformList(BaseModel):
    """List transforms: the latest version of each name, or all versions of one."""

    transforms: list[TransformCard]


class ApplyReply(BaseModel):
    """Hold the transformed vectors, in the order of the input."""

    vectors: list[list[float] | str]
    transform: str
    dimensions: int
    model: str | None
    model_sha256: str | None


class CellReply(BaseModel):
    """Hold one setting and its rank correlation, -1 to 1."""

    beta: float
    gamma: float
    dimensions: int
    spearman: float


class TuneReply(BaseModel):
    """Say what a grid search found; correlations are Spearman's, -1 to 1."""

    baseline: float = Field(description="Of the raw vectors.")
    table: list[CellReply] = Field(description="Of each setting, on all pairs.")
    best: CellReply = Field(description="The largest of the table; the best of many is flattered.")
    held_out: float = Field(description="Of pairs ranked by a setting chosen without them.")
    gain: float = Field(description="held_out − baseline.")
    gain_interval: list[float] = Field(description="95 % of the gains when pairs are resampled.")
    verdict: Literal["gain", "no_gain"] = Field(
        description="`gain` where the whole interval is above 0."
    )
    id: str = Field(description="The new version with the best setting; the old one for `no_gain`.")
    pairs: int
    folds: int
    seed: int


class Hub(BaseModel):
    """Name a vector that is in many lists."""

    index: int
    occurrences: int


class HubnessReply(BaseModel):
    """Sum up how unevenly the places in lists of neighbours are shared."""

    skewness: float
    robin_hood: float = Field(description="Share of places that would have to change hands.")
    gini: float
    antihub_share: float = Field(description="Share of vectors in nobody's list.")
    hub_share: float = Field(description="Share of vectors in at least 2k lists.")
    max_occurrence: int
    centre_correlation: float | None = Field(
        description="Of occurrences with the cosine to the mean; null where either is constant."
    )
    hubs: list[Hub]


class IsotropyReply(BaseModel):
    """Say how evenly the dimensions are used."""

    isoscore: float
    effective_rank: float
    mean_cosine: float


class GeometryReply(IsotropyReply):
    """Describe how vectors lie in their space; diagnostics, not measures of quality."""

    whitened: IsotropyReply | None = Field(
        description="The same after whitening; null where that was not asked for, or where it "
        "leaves one direction."
    )
    hubness: dict[str, HubnessReply] = Field(description="`raw`, and one for each reduction.")
    left_out: dict[str, str] = Field(
        description="Reductions that these vectors do not have, each with the reason."
    )
    samples: int
    dimensions: int
    k: int
    hubness_samples: int = Field(description="Vectors drawn for hubness; all, up to a limit.")
    seed: int
    model: str | None
    model_sha256: str | None
