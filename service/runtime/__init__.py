"""Run models: the only package that imports onnxruntime.

onnxruntime reads its telemetry switch while it is imported, so the switch is set here, before any
module of this package can import it.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# One text is tokenised in 0.05 ms; the library's pool would be sized to the host, not the quota.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
