"""Name what is cached: one key per text, carrying all that the vector depends on."""

from __future__ import annotations

import json
import re
from binascii import hexlify
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from service.stores.codec import FORMAT_VERSION

Option = str | int | float | bool | None

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Keyspace:
    """Make the keys of one (capability, revision, artefact, options).

    A key is the name under which Redis knows the value:

    `svc:<capability>:<revision>:<artefact/12>:<options digest>:<input digest>`

    Both digests are 16 bytes of BLAKE2b in hexadecimal. The options digest also covers the whole
    artefact digest and the version of the value format, so that services of different releases
    can share one Redis and never read each other's values.

    Args:
        capability: the room or floor that computes the value, `embedding`.
        revision: raised when the meaning of the value changes, `1`.
        artefact_sha256: 64 hexadecimal digits over graph and tokenizer.
        options: every option that changes the value (pooling, truncation, prompt, …).

    Raises:
        ValueError: a part cannot stand in a name, or an option is not a plain finite value.
    """

    __slots__ = ("_prefix",)

    def __init__(
        self,
        *,
        capability: str,
        revision: str,
        artefact_sha256: str,
        options: Mapping[str, Option],
    ) -> None:
        for part in (capability, revision):
            if _NAME.fullmatch(part) is None:
                raise ValueError(f"{part!r} cannot stand in a cache key")
        if _SHA256.fullmatch(artefact_sha256) is None:
            raise ValueError(f"{artefact_sha256!r} is not a SHA-256 in lower-case hexadecimal")
        canonical = json.dumps(
            [FORMAT_VERSION, artefact_sha256, dict(options)], sort_keys=True, allow_nan=False
        )
        digest = blake2b(canonical.encode(), digest_size=16).hexdigest()
        name = f"svc:{capability}:{revision}:{artefact_sha256[:12]}:{digest}:"
        self._prefix = name.encode()

    @property
    def prefix(self) -> bytes:
        """Return the part that all keys of this space begin with."""
        return self._prefix

    def key(self, text: str) -> bytes:
        """Return the key of `text`, which is hashed as it was sent, without normalisation."""
        # surrogatepass: a lone surrogate has no UTF-8, and a key must never be what fails
        encoded = text.encode("utf-8", "surrogatepass")
        return self._prefix + hexlify(blake2b(encoded, digest_size=16).digest())

    def keys(self, texts: Iterable[str]) -> list[bytes]:
        """Return the key of each text, in order."""
        return [self.key(text) for text in texts]
