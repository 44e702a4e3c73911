"""Services that check tokens themselves, with the policy that a gateway before them has: `api` for ASGI, `site` for WSGI."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from typing import Any

from fastapi import FastAPI, Request
from flask import Flask, request

from gatekit import jwt
from gatekit.asgi import Authn
from gatekit.wsgi import Authn as WsgiAuthn

if os.environ.get("GATEKIT_DIES_WITH_PARENT"):
    # Servers start workers of their own; no worker may outlive the process that started it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

ASKED = json.loads(os.environ["GATE"])
METHODS = [jwt(**ASKED["methods"]["jwt"])]
HEADERS = {"x-user-id": "subject"}

api = FastAPI()
api.add_middleware(Authn, methods=METHODS, identity_headers=HEADERS)


@api.get("/whoami")
async def whoami(request: Request) -> dict[str, Any]:
    """Whom the policy found, as the service is told it: by the framework, and in a header."""
    return {"user": request.user.identity, "header": request.headers.get("x-user-id")}


flask = Flask(__name__)


@flask.get("/whoami")
def site_whoami() -> dict[str, Any]:
    """The same."""
    return {"user": request.environ["gatekit.identity"].subject, "header": request.headers.get("x-user-id")}


site = WsgiAuthn(flask.wsgi_app, methods=METHODS, identity_headers=HEADERS)
