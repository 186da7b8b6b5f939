"""The commands beside `models`, each in a process of its own, as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from service import __version__
from service.registry import CAPABILITIES
from service.settings import Settings


def isotrope(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env={**os.environ, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_command() -> None:
    done = isotrope("--help")
    assert done.returncode == 0
    for command in ("serve", "models", "openapi", "settings"):
        assert f" {command} " in done.stdout
    assert "SERVICE_<NAME>" in done.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, service.cli.main; "
        "print([m for m in ('onnxruntime', 'fastapi', 'pydantic', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_version() -> None:
    assert isotrope("--version").stdout == f"{__version__}\n"


def test_settings_are_all_explained() -> None:
    done = isotrope("settings")
    assert done.returncode == 0
    kinds: list[type[BaseSettings]] = [Settings, *(room.settings for room in CAPABILITIES)]
    for kind in kinds:
        prefix = kind.model_config.get("env_prefix", "")
        for name, field in kind.model_fields.items():
            assert f"{prefix}{name}".upper() in done.stdout
            assert field.description
            assert field.description in done.stdout


def test_openapi_is_written_the_same_each_time(tmp_path: Path) -> None:
    printed = isotrope("openapi", SERVICE_MODELS_DIR=str(tmp_path / "none"))
    assert printed.returncode == 0, printed.stderr
    document = json.loads(printed.stdout)
    assert "/v1/embeddings" in document["paths"]
    path = tmp_path / "openapi.json"
    assert isotrope("openapi", "-o", str(path)).returncode == 0
    assert path.read_text(encoding="utf-8") == printed.stdout


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SERVICE_MAX_BATCH_TOKENS", "0"), ("SERVICE_ROOMS", "attic"), ("SERVICE_LOG_LEVEL", "loud")],
)
def test_serve_refuses_a_wrong_setting_by_name(variable: str, value: str) -> None:
    done = isotrope("serve", "--port", "0", **{variable: value})
    assert done.returncode == 2
    assert variable in done.stderr
    assert value in done.stderr
    assert "Traceback" not in done.stderr
