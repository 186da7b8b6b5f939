"""Define the bodies of this room."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from service.web.wire import WireModel, leave_out_default, whole

_MOST = 1_000_000


def _read_amount(value: object) -> int:
    number = whole(value)
    if type(number) is not int or not 1 <= number <= _MOST:
        raise ValueError(f"must be a whole number from 1 to {_MOST}")
    return number


ModelName = Annotated[str, Field(min_length=1)]
_Positive = Annotated[int, Field(ge=1, le=_MOST)]
Amount = Annotated[_Positive, BeforeValidator(whole, json_schema_input_type=_Positive)]
# For a field that may be left out; null is no way to leave it out.
GivenAmount = Annotated[
    int | None,
    PlainValidator(_read_amount),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": _MOST}),
    Field(json_schema_extra=leave_out_default),
]
_NeighbourCount = Annotated[int, Field(ge=2, le=64)]
NeighbourCount = Annotated[
    _NeighbourCount, BeforeValidator(whole, json_schema_input_type=_NeighbourCount)
]
Seed = Annotated[str, Field(min_length=1, max_length=1_000)]
Language = Annotated[str, Field(pattern="^[a-z]{2,3}$")]
ReviewId = Annotated[str, Field(min_length=1, max_length=256)]


class GivenReview(WireModel):
    """Hold one review."""

    id: ReviewId = Field(description="The caller's name for it; comes back in the evidence.")
    text: str
    rating: Annotated[float, Field(ge=1, le=5)] | None = Field(
        None, description="1 to 5; leans the sentiment of its sentences a little."
    )


class Budget(WireModel):
    """Bound each summary in exactly one unit."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["words"]},
                {"required": ["sentences"]},
                {"required": ["tokens"]},
            ]
        }
    )

    words: GivenAmount = Field(
        None, description="Runs without a space; two characters where a script has no spaces."
    )
    sentences: GivenAmount = Field(None, description="Whole sentences.")
    tokens: GivenAmount = Field(
        None, description="Tokens of the encoder, its special ones included."
    )

    @model_validator(mode="after")
    def _require_one(self) -> Budget:
        if len(self.model_fields_set) != 1:
            raise ValueError("a budget has exactly one of words, sentences and tokens")
        return self


class Choices(WireModel):
    """Ask for a summary in a certain way."""

    strategy: Literal["consensus", "centrality", "coverage", "lexrank", "centroid"] = Field(
        "consensus",
        description="`consensus` blends centrality with shared words and impersonal wording.",
    )
    distance: Literal["geodesic", "cosine"] = Field(
        "geodesic",
        description="Along the graph of near sentences, or straight; not for lexrank and centroid.",
    )
    aspects: dict[
        Annotated[str, Field(min_length=1, max_length=200)],
        Annotated[list[Seed], Field(min_length=1, max_length=32)],
    ] = Field(
        default_factory=dict,
        description="Seed words or sentences by name; each aspect gets a summary of its own.",
    )
    budget: Budget = Field(
        default_factory=lambda: Budget(words=75), description="Of every summary; 75 words."
    )
    redundancy: float = Field(
        0.4,
        ge=0,
        le=1,
        description="How much likeness to a chosen sentence costs; 0 lets the summary repeat.",
    )
    min_support: Amount = Field(1, description="Least number of reviews that say it.")
    split_sentiment: bool = Field(
        False, description="Whether praise and complaint get a summary each."
    )
    radius: Annotated[float, Field(ge=0, le=3.2)] | None = Field(
        None,
        description="Longest geodesic in radians over which a sentence supports another; "
        "absent is where 1 in 100 sentences about different things comes as near for the encoder.",
    )
    min_sentence_words: Amount | None = Field(
        None, description="Absent is 3, given up where no sentence fits."
    )
    max_sentence_words: Amount | None = Field(
        None, description="Absent is 25, given up where no sentence fits."
    )
    min_opinion: float = Field(
        0.0, ge=0, le=1, description="Least strength of praise or complaint."
    )


class SummarizeRequest(Choices):
    """Ask what reviewers say."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["reviews"]}, {"required": ["corpus"]}],
            "examples": [
                {
                    "reviews": [
                        "The room was clean. Breakfast was cold.",
                        "Very clean room and a friendly desk.",
                        "Clean, but the breakfast was cold and late.",
                    ],
                    "aspects": {"food": ["breakfast", "food"]},
                    "budget": {"words": 20},
                },
                {
                    "reviews": [
                        {"id": "r1", "text": "The battery lasts two days.", "rating": 5},
                        {"id": "r2", "text": "Battery life is poor.", "rating": 2},
                    ],
                    "split_sentiment": True,
                    "budget": {"sentences": 1},
                },
            ],
        }
    )

    reviews: list[str | GivenReview] = Field(
        default_factory=list,
        min_length=1,
        description="Texts, or texts with ids and ratings; a text's id is its place.",
    )
    corpus: Annotated[str, Field(min_length=1)] = Field(
        "",
        description="In place of reviews: id of a stored geodesic corpus, an item a review.",
        json_schema_extra=leave_out_default,
    )
    model: ModelName | None = Field(
        None, description="Encoder; absent means that of the corpus, or the default one."
    )
    k: NeighbourCount = Field(
        5, description="Neighbours of each sentence in the graph, at most all others."
    )
    language: Language | None = Field(
        None,
        description="ISO 639 code of all reviews; absent guesses each between English and the "
        "scripts without spaces.",
    )


class Evidence(BaseModel):
    """Point at a sentence in a review."""

    text: str
    review_id: str
    start: int
    end: int


class Support(BaseModel):
    """Say who agrees."""

    reviews: int = Field(description="Reviews with a sentence within the radius, its own included.")
    sentences: int = Field(description="Distinct sentences within the radius.")
    review_ids: list[str]
    evidence: list[Evidence] = Field(description="The nearest of those sentences, at most 10.")


class Sentiment(BaseModel):
    """Say how a sentence judges."""

    label: Literal["positive", "neutral", "negative"]
    score: float = Field(description="-1 (complaint) to 1 (praise).")
    support: dict[str, int] = Field(description="Supporting sentences by label.")


class SummarySentence(Evidence):
    """Hold one sentence with its evidence; `text` is `review[start:end]`, to the character."""

    score: float
    support: Support
    sentiment: Sentiment


Reason = Literal["no_sentences", "no_support", "filtered", "budget"]


class SummarySection(BaseModel):
    """Hold one summary."""

    summary: list[SummarySentence]
    reason: Reason | None = Field(description="Why it is empty; null where it is not.")
    radius: float = Field(description="Of support, in radians.")
    used: int = Field(description="Of the budget.")


class SentimentSection(SummarySection):
    """Hold the summary of one side."""

    prevalence: float = Field(description="Share of reviews that take this side somewhere.")
    reviews: int
    sentences: int


class Dropped(BaseModel):
    """Count the sentences that could not be chosen, by the filter that left them out."""

    empty_reviews: int = Field(description="Reviews without a sentence.")
    short: int
    long: int
    opinion: int
    support: int
    budget: int


class SummaryReply(SummarySection):
    """Hold what reviewers say, with the evidence."""

    aspects: dict[str, SummarySection]
    sentiments: dict[str, SentimentSection] | None
    coverage: float = Field(description="Share of reviews that support a sentence of `summary`.")
    dropped: Dropped
    warnings: list[str]
    strategy: str
    distance: str
    budget: dict[str, int]
    k: int
    reviews: int
    sentences: int = Field(description="Distinct sentences.")
    model: str
    model_sha256: str


class CreateSetRequest(WireModel):
    """Ask for a set of reviews that grows."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "my-phone", "reviews": ["The battery lasts two days."], "language": "en"},
                {"name": "riverside-hotel"},
            ]
        }
    )

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,62}$")
    reviews: list[str | GivenReview] = Field(default_factory=list)
    model: ModelName | None = Field(None, description="Encoder of the set; absent is the default.")
    language: Language | None = None
    k: NeighbourCount = 5


class AddReviewsRequest(WireModel):
    """Ask to add reviews, or to replace those of the same id."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"reviews": [{"id": "1", "text": "The room was clean.", "rating": 4}]},
                {"reviews": [{"id": "2", "text": "Breakfast was cold. The room was clean."}]},
            ]
        }
    )

    reviews: list[GivenReview] = Field(min_length=1)


class SummarizeSetRequest(Choices):
    """Ask what the reviewers of a stored set say; the set's own encoder and k are used."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"budget": {"words": 30}, "strategy": "coverage"}]}
    )


class ReviewSetIdentity(BaseModel):
    """Say what a stored set is."""

    id: str
    model: str
    language: str | None
    k: int


class ReviewSet(ReviewSetIdentity):
    """Describe a stored set."""

    reviews: int
    revision: int = Field(description="Changes so far; the reply after a change names it.")


class ReviewSetList(BaseModel):
    """List stored sets; how far one is, its own route tells."""

    sets: list[ReviewSetIdentity]
