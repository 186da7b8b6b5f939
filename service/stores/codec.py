"""Turn an entry into bytes for Redis and back, and refuse whatever is not exactly our value.

```
offset  bytes  field
     0      4  magic "ISOV"
     4      1  format version
     5      1  dtype: 1 = float32, little-endian
     6      2  zero
     8      4  dimension d
    12      4  tokens
    16      4  dropped tokens
    20     16  key check: BLAKE2b of the key
    36      4  checksum: CRC-32 of bytes 0..19 and the payload
    40     4d  payload: the vector
```

The key check refuses a reply that belongs to somebody else's key, the checksum one that was
damaged or cut. Every byte is covered by the one or the other.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from zlib import crc32

import numpy as np

from service.stores.entry import Entry

FORMAT_VERSION = 1

_MAGIC = b"ISOV"
_FLOAT32 = 1
_FIELDS = struct.Struct("<4sBBHIII")
_CHECKS = struct.Struct("<16sI")
_CHECKS_AT = _FIELDS.size
_PAYLOAD_AT = _FIELDS.size + _CHECKS.size
_LITTLE_FLOAT32 = np.dtype("<f4")
_MOST = 2**32 - 1


def encode(entry: Entry, *, key: bytes) -> bytes:
    """Return the value that stands for `entry` under `key`."""
    fields = _FIELDS.pack(
        _MAGIC,
        FORMAT_VERSION,
        _FLOAT32,
        0,
        entry.vector.shape[0],
        min(entry.tokens, _MOST),
        min(entry.dropped_tokens, _MOST),
    )
    payload = entry.vector.astype(_LITTLE_FLOAT32, copy=False).tobytes()
    checks = _CHECKS.pack(_key_check(key), crc32(payload, crc32(fields)))
    return b"".join((fields, checks, payload))


def decode(value: object, *, key: bytes) -> Entry | None:
    """Return the entry in `value`, or None if it is not a whole and untouched value of `key`."""
    if type(value) is not bytes or len(value) < _PAYLOAD_AT:
        return None
    magic, version, dtype, zero, dimension, tokens, dropped = _FIELDS.unpack_from(value)
    if (magic, version, dtype, zero) != (_MAGIC, FORMAT_VERSION, _FLOAT32, 0):
        return None
    if len(value) != _PAYLOAD_AT + 4 * dimension:
        return None
    key_check, checksum = _CHECKS.unpack_from(value, _CHECKS_AT)
    # a slice of bytes is a copy: the vector below owns it alone, and cannot write to it
    payload = value[_PAYLOAD_AT:]
    if key_check != _key_check(key) or checksum != crc32(payload, crc32(value[:_CHECKS_AT])):
        return None
    vector = np.frombuffer(payload, dtype=_LITTLE_FLOAT32).astype(np.float32, copy=False)
    return Entry(vector, tokens, dropped)


def _key_check(key: bytes) -> bytes:
    return blake2b(key, digest_size=16).digest()
