# SPDX-License-Identifier: Apache-2.0
"""Listening: the address is taken before anything is loaded, and answered at when everything is."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from .guard import ServeError


def read_key(variable: str | None, host: str) -> str | None:
    """The API key that clients have to bring; warns of servers that others reach without one.

    Args:
        variable: environment variable that holds it; None for no key.
        host: the address to listen on.

    Raises:
        ServeError: the variable is not set.
    """
    if variable is None:
        if not _is_loopback(host):
            print(
                f"mmself: warning: {host} can be reached from other machines, and no key is asked for. Set one with "
                "`--api_key_env`.",
                file=sys.stderr,
            )
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ServeError(f"The environment variable {variable} is not set. Put the API key into it.")
    return key


def serve(host: str, port: int, make: Callable[[], FastAPI], what: str) -> None:
    """Serves an application until it is stopped.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        make: loads what is served.
        what: the name of it, for the line that says where it is.

    Raises:
        ServeError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"{host}:{port} cannot be used: {error.strerror or error}. Choose another port."
            ) from None
        app = make()
        place = f"[{host}]" if ":" in host else host
        print(f"{what} at http://{place}:{listener.getsockname()[1]}/v1", flush=True)
        config = uvicorn.Config(app, log_level="warning", ws="none", server_header=False, timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listener])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
