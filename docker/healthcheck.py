"""Exit with 0 where a real inference just worked here; standard library alone: it is cheap."""

import http.client
import os
import sys

connection = http.client.HTTPConnection(
    "127.0.0.1",
    int(os.environ.get("SERVICE_PORT", "8000")),  # noqa: TID251 - no settings here
    timeout=5,
)
try:
    connection.request("GET", "/readyz")
    sys.exit(0 if connection.getresponse().status == http.HTTPStatus.OK else 1)
except OSError as error:
    sys.exit(f"not reachable: {error}")
