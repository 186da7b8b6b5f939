"""Define the bodies of the routes on layers."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue

from service.capabilities.attention.option_schemas import (
    NoiseChoice,
    RopeChoice,
    RopeField,
    RopeLiteral,
    ScaleField,
    VariantName,
)
from service.capabilities.attention.tensors import (
    GivenHeadMaps,
    GivenHidden,
    GivenKeys,
    GivenMap,
    GivenMask,
    GivenQueries,
    GivenValues,
)
from service.web.wire import EncodingFormat, Seed, WireModel, whole

_MOST_SIZE = 2**20
_Size = Annotated[int, Field(ge=1, le=_MOST_SIZE)]
Size = Annotated[_Size, BeforeValidator(whole, json_schema_input_type=_Size)]
_Rest = Annotated[int, Field(ge=0, le=_MOST_SIZE)]
Rest = Annotated[_Rest, BeforeValidator(whole, json_schema_input_type=_Rest)]
_Layer = Annotated[int, Field(ge=0, le=10_000)]
Layer = Annotated[_Layer, BeforeValidator(whole, json_schema_input_type=_Layer)]
_Many = Annotated[int, Field(ge=1, le=2**40)]
Many = Annotated[_Many, BeforeValidator(whole, json_schema_input_type=_Many)]
_Few = Annotated[int, Field(ge=2, le=512)]
Few = Annotated[_Few, BeforeValidator(whole, json_schema_input_type=_Few)]
_Heads = Annotated[int, Field(ge=1, le=64)]
ProbeHeads = Annotated[_Heads, BeforeValidator(whole, json_schema_input_type=_Heads)]
_Width = Annotated[int, Field(ge=2, le=512, multiple_of=2)]
Width = Annotated[_Width, BeforeValidator(whole, json_schema_input_type=_Width)]

DtypeName: TypeAlias = Literal["float64", "float32", "float16", "bfloat16", "float8", "int8"]
LayerPart: TypeAlias = Literal[
    "output",
    "probabilities",
    "entropy",
    "concentration",
    "cache_bytes",
    "noise_sensitivity",
    "rank",
]


class LayerRope(RopeChoice):
    """Say how positions become angles in a layer that brings none of its own."""

    base: Annotated[float, Field(gt=1, le=1e12)] = Field(
        10_000.0, description="Of the angles: position · base^(-2m/d) for pair m."
    )
    dim: Width | None = Field(
        None, description="Numbers of a head that turn, the first ones; absent means all."
    )
    layout: Literal["halves", "interleaved"] = Field(
        "halves", description="Which numbers make a pair: m and m + d/2, or 2m and 2m + 1."
    )


class LayerWeights(WireModel):
    """Give the projections of a layer: three for mha, gqa and mqa, four to six for mla."""

    w_q: GivenHeadMaps = Field(None, description="Queries: (heads, hidden, d_k).")
    w_k: GivenHeadMaps = Field(None, description="Keys: (kv_heads, hidden, d_k).")
    w_v: GivenHeadMaps = Field(
        None, description="Values: (kv_heads, hidden, d_v); of mla (heads, kv_rank, d_v)."
    )
    w_qc: GivenHeadMaps = Field(
        None, description="Of mla: queries that meet the latent, (heads, hidden, d_k)."
    )
    w_qr: GivenHeadMaps = Field(
        None, description="Of mla: queries that turn with position, (heads, hidden, rope_dim)."
    )
    w_kv_down: GivenMap = Field(None, description="Of mla: the latent, (hidden, kv_rank).")
    w_kc: GivenHeadMaps = Field(
        None, description="Of mla: keys from the latent, (heads, kv_rank, d_k)."
    )
    w_kr: GivenMap = Field(
        None, description="Of mla: the shared key that turns, (hidden, rope_dim)."
    )


_EXAMPLES: list[JsonValue] = [
    {
        "variant": "mqa",
        "q": [[[1, 0], [0, 1], [1, 1]], [[0.5, 0], [0, 0.5], [1, -1]]],
        "k": [[[1, 0], [0, 1], [1, 1]]],
        "v": [[[1, 2], [3, 4], [5, 6]]],
        "causal": True,
    },
    {
        "variant": "gqa",
        "hidden": [[1, 0], [0, 1], [1, 1]],
        "weights": {
            "w_q": [[[1, 0], [0, 1]], [[0, 1], [1, 0]]],
            "w_k": [[[1, 0], [0, 1]]],
            "w_v": [[[1], [2]]],
        },
        "rope": {"name": "pi", "factor": 4},
        "scale": "log_n_dagger",
        "return": ["output", "probabilities", "entropy", "rank"],
    },
]


class LayerRequest(WireModel):
    """Ask for one attention layer: q, k, v, or hidden, weights, or a model's layer and a text."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["q", "k", "v"]},
                {"required": ["hidden", "weights"]},
                {"required": ["layer", "text"]},
            ],
            "examples": _EXAMPLES,
        }
    )

    variant: VariantName = Field(
        "gqa", description="How queries share keys and values; `gqa` covers `mha` and `mqa`."
    )
    q: GivenQueries = None
    k: GivenKeys = None
    v: GivenValues = None
    hidden: GivenHidden = None
    weights: LayerWeights = Field(
        default_factory=LayerWeights, description="Projections of the hidden states."
    )
    model: str | None = Field(
        None, min_length=1, description="Language model of `layer`; absent means the default."
    )
    layer: Layer | None = Field(
        None, description="A layer of a language model, from 0, whose q, k and v are taken."
    )
    text: str | None = Field(None, min_length=1, description="What the model reads.")
    kv_rank: Size | None = Field(
        None,
        description="Of mla over q, k, v: numbers of the latent that keys and values become; "
        "absent means as many as lose nothing.",
    )
    causal: bool = Field(False, description="Whether keys after their query are hidden.")
    mask: GivenMask = None
    scale: ScaleField = Field("sqrt", description="What q·k is multiplied by; a number as it is.")
    rope: RopeLiteral | LayerRope = Field(
        "none",
        description="How positions become angles. Of a model's layer: absent means `direct`, with "
        "the model's own base and layout.",
    )
    normaliser: Literal["softmax", "l2"] = Field(
        "softmax", description="`l2`: e^s in rows of length 1, whose sums tell how many keys."
    )
    noise: NoiseChoice | None = Field(None, description="Noise on the scores of every head.")
    return_: list[LayerPart] = Field(
        ["output", "entropy", "cache_bytes"],
        alias="return",
        min_length=1,
        description="What to give. `probabilities` and `rank` for few tokens only.",
    )
    encoding_format: EncodingFormat = Field(
        "float", description="`base64` sends arrays as {shape, dtype, data}."
    )


class CacheSizeRequest(WireModel):
    """Ask what variants keep of each token."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"q_heads": 9, "kv_heads": 3, "head_dim": 64, "layers": 30, "tokens": 8192},
                {
                    "q_heads": 128,
                    "head_dim": 128,
                    "kv_rank": 512,
                    "rope_dim": 64,
                    "layers": 60,
                    "dtype": "bfloat16",
                },
            ]
        }
    )

    q_heads: Size = Field(description="Query heads.")
    kv_heads: Size | None = Field(None, description="Key heads of gqa; absent leaves it out.")
    head_dim: Size = Field(description="Numbers of a key in one head.")
    value_dim: Size | None = Field(None, description="Numbers of a value; absent: as of a key.")
    kv_rank: Size | None = Field(None, description="Latent of mla; absent leaves it out.")
    rope_dim: Rest = Field(0, description="Of mla: the shared key that turns.")
    layers: Size = Field(1, description="Layers of the model.")
    tokens: Many = Field(1, description="Tokens kept of each sequence.")
    sequences: Many = Field(1, description="Sequences kept at one time.")
    dtype: DtypeName = Field("float32", description="Of the numbers kept.")


class ProbeRequest(WireModel):
    """Ask what attention can tell about positions, and how many of its rows are independent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"tokens": 32, "heads": 2, "head_dim": 16, "seed": 7},
                {"tokens": 64, "heads": 1, "head_dim": 8, "rope": "none", "scale": 0.01, "seed": 7},
            ]
        }
    )

    tokens: Few = Field(64, description="Tokens of each probe.")
    heads: ProbeHeads = Field(4, description="Heads, each with weights of its own.")
    head_dim: Width = Field(16, description="Numbers of a head, even.")
    rope: RopeField = Field("direct", description="How positions become angles; base 10,000.")
    scale: ScaleField = Field("sqrt", description="As for layers.")
    seed: Seed
