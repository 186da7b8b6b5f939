"""Serve the geometry of text over HTTP; `service/README.md` is the map of the house."""

import os
from importlib.metadata import PackageNotFoundError, version

# Read by the libraries of linear algebra when they are loaded. The service runs one piece of work a
# core by itself: threads inside a product would only take cores from each other, and a sum's last
# bit would depend on how many there were. A value that is set already stays.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

try:
    __version__ = version("isotrope")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
