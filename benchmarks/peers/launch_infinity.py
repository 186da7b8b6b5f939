"""Start infinity-emb with its ONNX engine on a local model folder.

Runs inside infinity's own environment. As released (0.0.78 with optimum-onnx 0.1.0) the server
hands optimum the absolute path of the ONNX file it found, and optimum refuses a file name that is
not relative to the model folder. The wrapper below keeps infinity's own choice of file and passes
on its bare name, which is what optimum wants for a file that lies at the top of the folder.
Nothing else is changed.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import sys
from pathlib import Path

from infinity_emb.cli import cli
from infinity_emb.transformer.embedder import optimum as engine

choose_file = engine.get_onnx_files


def choose_bare_file_name(**options: object) -> Path:
    """Return the name, without its folder, of the ONNX file infinity chose."""
    return Path(choose_file(**options).name)


if __name__ == "__main__":
    engine.get_onnx_files = choose_bare_file_name
    sys.exit(cli())
