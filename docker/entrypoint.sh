#!/bin/sh
# Put the kernels that were compiled with the image where new ones may be written too: numba wants a
# folder that it can write to, and the root file system is read-only.
set -eu
mkdir -p "$NUMBA_CACHE_DIR"
cp -Rpn /opt/isotrope/kernels/. "$NUMBA_CACHE_DIR/" 2>/dev/null || true
exec "$@"
