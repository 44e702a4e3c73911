"""A policy in front of a Flask app: `gunicorn protect_flask:app`."""

from __future__ import annotations

from flask import Flask

from gatekit.wsgi import RateLimit

app = Flask(__name__)
app.wsgi_app = RateLimit(app.wsgi_app, limit="2/minute", by="client_ip")  # type: ignore[method-assign]


@app.get("/")
def index() -> str:
    return "hello"


def main() -> None:
    from gatekit.testing import call_wsgi

    statuses = [call_wsgi(app, "GET", "/").status for _ in range(3)]
    assert statuses == [200, 200, 429], statuses


if __name__ == "__main__":
    main()
