"""Fetch an exported model from the hub, where there is a network."""

from __future__ import annotations

import re
from pathlib import Path

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WANTED = ["*.json", "onnx/model.onnx*", "model.onnx*", "1_Pooling/*", "sentencepiece*", "LICENSE*"]


class HubUnavailable(Exception):
    """The hub cannot be reached, or has no such model."""


def fetch_from_hub(hub_id: str) -> Path:
    """Download the ONNX export of a model and return its folder.

    Args:
        hub_id: `name` or `organisation/name`.

    Raises:
        HubUnavailable: no network, no such model, or `hub_id` is neither folder nor id.
    """
    if not _HUB_ID.fullmatch(hub_id):
        raise HubUnavailable(f"{hub_id!r} is neither a folder here nor an id on the hub.")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import RepositoryNotFoundError
    except ImportError as error:
        raise HubUnavailable(
            f"{hub_id!r} is no folder here, and fetching from the hub needs `huggingface_hub`."
        ) from error
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_WANTED))
    except RepositoryNotFoundError as error:
        raise HubUnavailable(f"The hub has no public model {hub_id!r}.") from error
    except Exception as error:
        raise HubUnavailable(
            f"{hub_id!r} is no folder here, and the hub cannot be reached "
            f"({type(error).__name__}). Without a network, give a folder that holds the export."
        ) from error
