"""Read what a request asks for, refusing combinations that have no meaning."""

from __future__ import annotations

from service.capabilities.tokenization.drawing import Wanted
from service.capabilities.tokenization.schemas import EncodeRequest, SampleRequest
from service.errors import Fault, InvalidInput

_DEFAULT_DROPOUT = 0.1
_LAWFUL = frozenset(
    {"log_prob", "inclusion_log_prob", "log_partition", "entropy", "expected_tokens"}
)
_MEASURED = frozenset({"entropy", "expected_tokens"})
_PLACED = frozenset({"offsets", "byte_offsets"})
_FLAT = frozenset({"ids", "log_prob"})


def encode_fields(body: EncodeRequest) -> frozenset[str]:
    """Return what each result holds."""
    return frozenset(("ids", "pieces") if body.return_ is None else body.return_)


def sample_fields(body: SampleRequest) -> frozenset[str]:
    """Return what results and samples hold.

    Raises:
        InvalidInput: a field that this method, or this format, does not have.
    """
    if body.return_ is None:
        return _usual_fields(body)
    fields = frozenset(body.return_)
    if body.method == "bpe_dropout" and fields & _LAWFUL:
        raise _no_field(
            fields & _LAWFUL, "bpe_dropout has no closed-form law, so nothing is known of it"
        )
    if body.method != "sample_without_replacement" and "inclusion_log_prob" in fields:
        raise _no_field({"inclusion_log_prob"}, "it belongs to sample_without_replacement")
    if body.format == "flat" and fields - _FLAT:
        raise _no_field(fields - _FLAT, "flat arrays hold ids and log_prob")
    return fields


def read_wanted(body: SampleRequest) -> Wanted:
    """Return what is to be drawn.

    Raises:
        InvalidInput: `alpha` or `dropout` beside a method that has none.
    """
    if body.alpha is not None and body.method in ("uniform", "bpe_dropout"):
        raise _no_parameter("alpha", body.method)
    if body.dropout is not None and body.method != "bpe_dropout":
        raise _no_parameter("dropout", body.method)
    alpha = 1.0 if body.alpha is None else body.alpha
    fields = sample_fields(body)
    return Wanted(
        method=body.method,
        alpha=0.0 if body.method == "uniform" else alpha,
        dropout=_DEFAULT_DROPOUT if body.dropout is None else body.dropout,
        samples=body.num_samples,
        seed=body.seed,
        by_content=body.seed_scope == "content",
        measured=bool(fields & _MEASURED),
        aligned=bool(fields & _PLACED),
    )


def _usual_fields(body: SampleRequest) -> frozenset[str]:
    if body.format == "flat":
        return frozenset({"ids"} if body.method == "bpe_dropout" else {"ids", "log_prob"})
    fields = {"ids", "pieces"}
    if body.method != "bpe_dropout":
        fields |= {"log_prob", "log_partition", "entropy"}
    if body.method == "sample_without_replacement":
        fields.add("inclusion_log_prob")
    return frozenset(fields)


def _no_parameter(name: str, method: str) -> InvalidInput:
    return InvalidInput(
        f"{name} has no meaning for method={method}; leave it out.",
        faults=(Fault(f"/{name}", f"has no meaning for {method}"),),
    )


def _no_field(names: set[str] | frozenset[str], reason: str) -> InvalidInput:
    shown = ", ".join(sorted(names))
    return InvalidInput(
        f"{shown} cannot be returned: {reason}.", faults=(Fault("/return", f"{shown}: {reason}"),)
    )
