"""Triton's own HTTP client drives the service unchanged."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from tests.support.processes import ServiceProcess

MODEL = "all-MiniLM-L6-v2"


@pytest.mark.filterwarnings("ignore")  # of the client's own imports
def test_tritonclient_infers(live: ServiceProcess) -> None:
    from tritonclient import http
    from tritonclient.utils import InferenceServerException

    client = http.InferenceServerClient(live.url.removeprefix("http://"))
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert client.get_model_metadata(MODEL)["name"] == MODEL
        for binary in (True, False):
            texts = http.InferInput("text", [2], "BYTES")
            texts.set_data_from_numpy(np.array([b"a cat", b"a dog"], object), binary_data=binary)
            wish = http.InferRequestedOutput("mean", binary_data=binary)
            got = client.infer(MODEL, [texts], outputs=[wish]).as_numpy("mean")
            reply = httpx.post(f"{live.url}/v1/embeddings", json={"input": ["a cat", "a dog"]})
            rows = [row["embedding"] for row in reply.json()["data"]]
            assert np.array_equal(got, np.array(rows, np.float32))
        with pytest.raises(InferenceServerException, match="nobody"):
            client.infer("nobody", [texts])
    finally:
        client.close()
