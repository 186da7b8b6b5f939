"""A calibration and a seed mean the same after a restart, in another process."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.processes import start_service

TEXTS = [
    f"The {thing} was {how}." for thing in ("room", "train", "soup") for how in ("fine", "late")
]
DRAWS = {"logits": [[2, 1, 0.5, None]] * 3, "draws": 40, "noise": "logistic", "seed": 11}


def test_percentiles_and_draws_survive_a_restart(models_dir: Path, tmp_path: Path) -> None:
    environment = {"SERVICE_DATA_LOCATION": str(tmp_path / "data")}
    with start_service(models_dir, environment) as first:
        made = httpx.post(
            f"{first.url}/v1/analysis/density", json={"texts": TEXTS, "name": "kept", "seed": 1}
        )
        assert made.status_code == 201
        before = ask(first.url)
    with start_service(models_dir, environment) as second:
        assert ask(second.url) == before
    assert before[0]["calibration"] == made.json()["calibration"]["id"]


def ask(url: str) -> tuple[dict[str, object], dict[str, object]]:
    body = {"texts": TEXTS, "calibration": "kept"}
    similarity = httpx.post(f"{url}/v1/similarity", json=body, timeout=30)
    assert similarity.status_code == 200, similarity.text
    drawn = httpx.post(f"{url}/v1/distribution/sample", json=DRAWS, timeout=30)
    assert drawn.status_code == 200, drawn.text
    return similarity.json(), drawn.json()
