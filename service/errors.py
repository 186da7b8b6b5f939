"""Name every way a request or a start-up can fail; the whole tree stands in this file.

```
ServiceError                     code, status, title, retryable
├ InvalidInput 422               EmptyInput · NotFinite · DimensionMismatch · SequenceTooLong
├ Unauthorized 401
├ NotFound 404                   UnknownModel · UnknownArtefact · UnknownItem · UnknownRoute
├ MethodNotAllowed 405
├ Conflict 409                   ArtefactMismatch · VariantNotAvailable
├ PayloadTooLarge 413            TooManyItems · BodyTooLarge
├ UnsupportedMediaType 415
├ ClientLeft 499
├ Overloaded 429
├ Internal 500                   InvalidModelOutput
├ Unavailable 503                ModelNotReady · ProviderMissing · ArtefactDamaged · Draining ·
│                                StorageUnavailable
└ DeadlineExceeded 504
```

An error says what was wrong, with the offending value, and what to do about it. Only
`service.web.problems` knows how an error becomes an HTTP answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """Point at one offending place of a request.

    Attributes:
        pointer: JSON pointer into the request body, `""` for the whole of it.
        detail: what is wrong there.
    """

    pointer: str
    detail: str


class ServiceError(Exception):
    """Carry what every answer about a failure needs.

    Args:
        detail: one or two sentences with the offending value and the way out.
        faults: the offending places, where there are any.
        retry_after_seconds: when a retry has a chance, for the errors that pass.
    """

    code: ClassVar[str] = "service_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The service failed"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        faults: tuple[Fault, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = faults
        self.retry_after_seconds = retry_after_seconds


class InvalidInput(ServiceError):
    """The request is well understood and cannot be computed."""

    code = "invalid_input"
    status = 422
    title = "The request cannot be computed"


class EmptyInput(InvalidInput):
    """Nothing was given where something is needed."""

    code = "empty_input"
    title = "The input is empty"


class NotFinite(InvalidInput):
    """A number is NaN or infinite."""

    code = "not_finite"
    title = "A number is not finite"


class DimensionMismatch(InvalidInput):
    """Shapes or dimensions do not fit each other."""

    code = "dimension_mismatch"
    title = "The dimensions do not fit"


class SequenceTooLong(InvalidInput):
    """A text has more pieces than the model reads, and cutting it was forbidden."""

    code = "sequence_too_long"
    title = "A text is too long for the model"


class Unauthorized(ServiceError):
    """No API key was given, or an unknown one."""

    code = "unauthorized"
    status = 401
    title = "An API key is needed"


class NotFound(ServiceError):
    """What the request names does not exist."""

    code = "not_found"
    status = 404
    title = "Not found"


class UnknownModel(NotFound):
    """No model of that name is installed."""

    code = "unknown_model"
    title = "The model is unknown"


class UnknownArtefact(NotFound):
    """Nothing is stored under that name, or it was deleted."""

    code = "unknown_artefact"
    title = "The artefact is unknown"


class UnknownItem(NotFound):
    """A collection has no item of that id."""

    code = "unknown_item"
    title = "The item is unknown"


class UnknownRoute(NotFound):
    """No operation lives at that path."""

    code = "unknown_route"
    title = "No such path"


class MethodNotAllowed(ServiceError):
    """The path exists, the method on it does not."""

    code = "method_not_allowed"
    status = 405
    title = "The method is not allowed here"


class Conflict(ServiceError):
    """The request contradicts what is stored."""

    code = "conflict"
    status = 409
    title = "The request conflicts with what is stored"


class ArtefactMismatch(Conflict):
    """What is stored was made for another encoder."""

    code = "artefact_mismatch"
    title = "The artefact belongs to another encoder"


class VariantNotAvailable(Conflict):
    """The model has no graph for that variant of attention, or for that position scheme."""

    code = "variant_not_available_for_model"
    title = "The model lacks this variant"


class PayloadTooLarge(ServiceError):
    """The request is larger than a limit."""

    code = "payload_too_large"
    status = 413
    title = "The request is too large"


class TooManyItems(PayloadTooLarge):
    """More items came than one call may carry."""

    code = "too_many_items"
    title = "Too many items in one request"


class BodyTooLarge(PayloadTooLarge):
    """The body has more bytes than the limit."""

    code = "body_too_large"
    title = "The request body is too large"


class UnsupportedMediaType(ServiceError):
    """The body is of a kind that the operation does not read."""

    code = "unsupported_media_type"
    status = 415
    title = "The content type is not supported"


class ClientLeft(ServiceError):
    """Nobody waits for the work any more; never sent, since nobody is there to read it."""

    code = "client_left"
    status = 499
    title = "The client closed the connection"


class Overloaded(ServiceError):
    """Admission is full: accepting more would only make everybody wait."""

    code = "overloaded"
    status = 429
    title = "The service is at capacity"
    retryable = True


class Internal(ServiceError):
    """The service broke a promise of its own."""

    code = "internal"
    status = 500
    title = "The service failed"


class InvalidModelOutput(Internal):
    """A model returned NaN or infinity."""

    code = "invalid_model_output"
    title = "The model returned numbers that are not finite"


class Unavailable(ServiceError):
    """The service, or a part of it, cannot answer now."""

    code = "unavailable"
    status = 503
    title = "The service is not ready"
    retryable = True


class ModelNotReady(Unavailable):
    """The model is known, and is not loaded."""

    code = "model_not_ready"
    title = "The model is not ready"


class ArtefactDamaged(Unavailable):
    """A file of a model, or a stored value, does not match the digest that is kept for it."""

    code = "artefact_damaged"
    title = "A stored file does not match its digest"
    retryable = False


class ProviderMissing(Unavailable):
    """The wished execution provider is not there, and the policy is strict."""

    code = "provider_missing"
    title = "The execution provider is missing"
    retryable = False


class Draining(Unavailable):
    """The process was told to stop and takes no new work."""

    code = "draining"
    title = "The service is stopping"


class StorageUnavailable(Unavailable):
    """What is stored cannot be read, or nothing can be stored."""

    code = "storage_unavailable"
    title = "The storage cannot be used"


class DeadlineExceeded(ServiceError):
    """The time that the request allowed is over."""

    code = "deadline_exceeded"
    status = 504
    title = "The deadline passed"
    retryable = True
