"""Serve the same graph and tokenizer with LitServe, the way its manual shows.

Runs inside LitServe's own environment: one worker, batches of requests gathered for at most 2 ms,
2 threads inside a run, spinning off. LitServe counts requests, so a request of many texts is
flattened; `--run-texts` bounds the texts of one run, as an author who batches by hand would.
"""

# mypy: disable-error-code="import-not-found, misc, no-any-return"

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import litserve
import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

PATH = "/v1/embeddings"


class Embeddings(litserve.LitAPI):
    """Answer `{"input": text or list}` with vectors, in the shape that OpenAI's API has."""

    def __init__(self, folder: Path, *, batch_requests: int, run_texts: int, threads: int) -> None:
        super().__init__(max_batch_size=batch_requests, batch_timeout=0.002, api_path=PATH)
        self._folder = folder
        self._run_texts = run_texts
        self._threads = threads

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe calls it so
        """Load the graph and the tokenizer in the worker."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            str(self._folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(256)

    def decode_request(self, request: dict[str, str | list[str]]) -> list[str]:
        """Return the texts of a request."""
        given = request["input"]
        return [given] if isinstance(given, str) else given

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        """Keep requests apart; `predict` flattens them."""
        return inputs

    def predict(self, inputs: list[list[str]] | list[str]) -> list[list[list[float]]]:
        """Return one list of vectors for each request."""
        requests = [inputs] if inputs and isinstance(inputs[0], str) else inputs
        texts = [text for request in requests for text in request]
        step = self._run_texts or len(texts)
        parts = [self._run(texts[i : i + step]) for i in range(0, len(texts), step)]
        vectors = np.concatenate(parts)
        ends = np.cumsum([len(request) for request in requests])[:-1]
        return [part.tolist() for part in np.split(vectors, ends)]

    def unbatch(self, output: list[list[list[float]]]) -> list[list[list[float]]]:
        """Return the answers, one for each request."""
        return output

    def encode_response(self, output: list[list[list[float]]]) -> dict[str, object]:
        """Return the body of an answer."""
        vectors = output[0] if output and isinstance(output[0][0], list) else output
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        return {"object": "list", "data": data, "model": "all-MiniLM-L6-v2"}

    def _run(self, texts: list[str]) -> np.ndarray:
        found = self._tokenizer.encode_batch_fast(texts)
        ids = np.array([one.ids for one in found], dtype=np.int64)
        mask = np.array([one.attention_mask for one in found], dtype=np.int64)
        return self._session.run(["mean"], {"input_ids": ids, "attention_mask": mask})[0]


def main() -> None:
    """Read the settings and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch-requests", type=int, default=64)
    parser.add_argument("--run-texts", type=int, default=0, help="0: all texts in one run")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    api = Embeddings(
        given.folder,
        batch_requests=given.batch_requests,
        run_texts=given.run_texts,
        threads=given.threads,
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=given.port, num_api_servers=1, log_level="warning",
        generate_client_file=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
