"""Build the multilingual graphs from small sources and compare them with plain NumPy."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.e5_file import parse_e5
from models.errors import RecipeError
from models.recipes import multilingual_e5, use_multilingual
from service.runtime import onnxruntime_version  # noqa: F401 - sets ORT_DISABLE_TELEMETRY first
from tests.support.e5_files import SmallE5
