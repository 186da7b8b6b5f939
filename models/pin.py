"""Rebuild shipped models and write the digests of their files into `manifest.json`.

```
python -m models.pin                      all models
python -m models.pin all-MiniLM-L6-v2     one or more of them
```

For whoever changes a recipe: the difference in `manifest.json` then shows what changed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import cast

from models.catalogue import MANIFEST_FILE, Entry, build_files, manifest
from models.digest import measure

_MANIFEST = Path(__file__).with_name(MANIFEST_FILE)


def pin(model_ids: list[str]) -> None:
    """Build the named models (all, where none is named) and record what came out."""
    whole = manifest()
    for entry in cast("list[Entry]", whole["models"]):
        if not model_ids or entry["id"] in model_ids:
            entry["files"] = _measured(entry)
            sys.stdout.write(f"{entry['id']}\n")
    _write(whole)


def record(entry: Entry) -> None:
    """Put `entry` into the manifest, in the place of the entry with its id if there is one."""
    whole = manifest()
    entries = {known["id"]: known for known in cast("list[Entry]", whole["models"])}
    entries[entry["id"]] = entry
    whole["models"] = list(entries.values())
    _write(whole)


def _write(whole: dict[str, object]) -> None:
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    _MANIFEST.write_text(text, encoding="utf-8")


def _measured(entry: Entry) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="isotrope-pin-") as scratch:
        folder = Path(scratch)
        build_files(entry, folder, progress=lambda _stage, _done, _total: None)
        return {path.name: measure(path) for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    pin(sys.argv[1:])
