"""Recognise a creating request that comes again."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request

from service.stores.claims import Idempotency


async def find_idempotency(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="A name of the client's own for this request. The same request with the "
            "same key makes nothing new and gets the same answer.",
        ),
    ] = None,
) -> Idempotency | None:
    """Return the key with a digest over all that is asked, None where no key was sent."""
    if key is None:
        return None
    body = await request.body()
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    digest = await asyncio.to_thread(lambda: sha256(asked + body).hexdigest())
    return Idempotency(key, digest)


GivenIdempotency = Annotated[Idempotency | None, Depends(find_idempotency)]
