"""The WSGI module that uWSGI loads for the APIs that speak JSON.

uWSGI hands a request with `Transfer-Encoding: chunked` to the application undecoded, through a call of its own.
Glance makes that call, which its uploads need; every other API would see an empty body and answer 400. This
wrapper reads such a body, up to a limit, and gives the application an ordinary one.

The wrapped module is named by the variable MINI_WSGI_MODULE. Runs in the virtual environment, under uWSGI only.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Iterable
from typing import Any

import uwsgi

_LIMIT = 16 * 1024 * 1024

_wrapped: Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]] = importlib.import_module(
    os.environ["MINI_WSGI_MODULE"]
).application


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Decode a chunked body; leave every other request alone."""
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked":
        body = bytearray()
        while chunk := uwsgi.chunked_read():
            body += chunk
            if len(body) > _LIMIT:
                start_response("413 Content Too Large", [("Content-Type", "text/plain")])
                return [b"a chunked body may have 16 MiB here\n"]
        del environ["HTTP_TRANSFER_ENCODING"]
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)
    return _wrapped(environ, start_response)
