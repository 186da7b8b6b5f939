"""What keeps the service from starting is said in a sentence, before it looks ready."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DEFAULT = "all-MiniLM-L6-v2"
SETTINGS_MISTAKE, START_FAILED = 2, 3


def refuse(models_dir: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Start the service, which must end by itself; return exit code, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "service", "serve", *(arguments or ("--port", "0"))],
        check=False,
        env={**os.environ, "SERVICE_MODELS_DIR": str(models_dir), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "listens on" not in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("SERVICE_PORT", "abc", ["SERVICE_PORT", "integer", "'abc'"]),
        ("SERVICE_ROOMS", "attics", ["SERVICE_ROOMS", "'attics'", "embeddings"]),
        ("SERVICE_LOG_LEVEL", "loud", ["SERVICE_LOG_LEVEL", "'loud'", "warning"]),
        ("SERVICE_API_KEYS_FILE", "/nowhere/keys", ["SERVICE_API_KEYS_FILE", "/nowhere/keys"]),
        ("SERVICE_PROVIDER_POLICY", "maybe", ["SERVICE_PROVIDER_POLICY", "strict", "'maybe'"]),
        ("SERVICE_EMBEDDINGS_MAX_INPUTS", "0", ["SERVICE_EMBEDDINGS_MAX_INPUTS", "'0'"]),
    ],
)
def test_a_wrong_setting_is_named(
    models_dir: Path, name: str, value: str, parts: list[str]
) -> None:
    arguments = () if name == "SERVICE_PORT" else ("--port", "0")
    code, out, err = refuse(models_dir, "--host", "127.0.0.1", *arguments, **{name: value})
    assert code == SETTINGS_MISTAKE
    assert out == ""
    assert all(part in err for part in parts), err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({"SERVICE_DEFAULT_MODEL": "nope"}, ["'nope'", DEFAULT]),
        ({"SERVICE_PRELOAD_MODELS": f"{DEFAULT},nope"}, ["'nope'", DEFAULT]),
        (
            {"SERVICE_PROVIDERS": "cuda", "SERVICE_PROVIDER_POLICY": "strict"},
            ["'cuda'", "cpu", "SERVICE_PROVIDER_POLICY=prefer"],
        ),
        ({"SERVICE_PROVIDERS": "abacus"}, ["'abacus'", "cuda"]),
        ({"SERVICE_DATA_LOCATION": "ftp://there"}, ["SERVICE_DATA_LOCATION", "s3://bucket/prefix"]),
    ],
)
def test_a_start_that_cannot_work_says_why(
    models_dir: Path, environment: dict[str, str], parts: list[str]
) -> None:
    code, _, err = refuse(models_dir, **environment)
    assert code == START_FAILED
    assert all(part in err for part in parts), err


def test_a_model_that_was_never_built_says_how_to_build_it(tmp_path: Path) -> None:
    code, _, err = refuse(tmp_path)
    assert code == START_FAILED
    assert f"isotrope models build {DEFAULT}" in err


def test_a_damaged_model_is_not_loaded(models_dir: Path, tmp_path: Path) -> None:
    source, folder = models_dir / DEFAULT, tmp_path / DEFAULT
    shutil.copytree(source, folder)
    content = bytearray((source / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    code, _, err = refuse(tmp_path)
    assert code == START_FAILED
    assert "model.onnx has SHA-256" in err
    assert f"isotrope models build {DEFAULT} --force" in err


def test_a_port_in_use_is_said(models_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, _, err = refuse(models_dir, "--port", port)
    assert code == START_FAILED
    assert f"127.0.0.1:{port}" in err
    assert "--port" in err
