"""Serve the geometry of text over HTTP; `service/README.md` is the map of the house."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("isotrope")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
