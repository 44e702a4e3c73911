"""The admin endpoints: who may ask what, what is answered, and what no trick of a request gets past."""

from __future__ import annotations

import pytest
from tests.gateway.admin_scene import CLOSED, LOCAL, TOKEN, Told, ask

from gatekit.gateway.admin import Admin
from gatekit.testing.asgi import http_scope


@pytest.fixture
def told() -> Told:
    return Told()


# -- what is answered


@pytest.mark.parametrize(
    ("method", "target", "status", "content"),
    [
        ("GET", "/live", 200, {"live": True}),
        ("GET", "/ready", 200, {"ready": True}),
        ("GET", "/status", 200, {"generation": 1, "path": "/a\nb"}),
        ("GET", "/saturation", 200, {"saturation": 0.73}),
        ("POST", "/drain", 200, {"drained": True, "cut": 0}),
        ("POST", "/drain?wait=true", 200, {"drained": True, "cut": 0}),
        ("POST", "/drain?wait=FALSE", 200, {"drained": True, "cut": 0}),
        ("POST", "/drain?wait=false&wait=true", 200, {"drained": True, "cut": 0}),
        ("POST", "/drain?wait=false", 202, {"draining": True}),
        ("POST", "/reload", 200, {"generation": 2}),
        ("GET", "/live?x=1", 200, {"live": True}),
    ],
)
async def test_each_endpoint_answers(told: Told, method: str, target: str, status: int, content: object) -> None:
    answer = await ask(told, method, target)
    assert (answer.status, answer.json()) == (status, content)
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("x-content-type-options") == "nosniff"


async def test_what_is_not_ready_says_why(told: Told) -> None:
    told.not_ready = "draining"
    answer = await ask(told, "GET", "/ready")
    assert (answer.status, answer.json()) == (503, {"ready": False, "reason": "draining"})
    assert (await ask(told, "GET", "/live")).status == 200


async def test_a_reload_that_changed_nothing_is_a_conflict(told: Told) -> None:
    told.reloaded = {"refused": ["routes[0]: no"], "generation": 1}
    answer = await ask(told, "POST", "/reload")
    assert (answer.status, answer.json()) == (409, {"refused": ["routes[0]: no"], "generation": 1})


async def test_a_saturation_that_nobody_knows_is_no_number(told: Told) -> None:
    told.saturated = {"error": "no worker tells"}
    answer = await ask(told, "GET", "/saturation")
    assert (answer.status, answer.json()) == (503, {"error": "no worker tells"})


@pytest.mark.parametrize("path", ["/live", "/ready"])
async def test_head_is_get_without_its_content(told: Told, path: str) -> None:
    head, get = await ask(told, "HEAD", path), await ask(told, "GET", path)
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == get.header("content-length") == str(len(get.body))


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/live", "GET, HEAD"),
        ("DELETE", "/ready", "GET, HEAD"),
        ("get", "/ready", "GET, HEAD"),
        ("OPTIONS", "/status", "GET"),
        ("POST", "/status", "GET"),
        ("GET", "/drain", "POST"),
        ("HEAD", "/drain", "POST"),
        ("PUT", "/reload", "POST"),
        ("GET", "/reload", "POST"),
    ],
)
async def test_another_method_is_told_which(told: Told, method: str, path: str, allow: str) -> None:
    answer = await ask(told, method, path)
    assert answer.status == 405
    assert allow in (answer.header("allow") or "")
    assert told.calls == []


@pytest.mark.parametrize(
    "target",
    [
        "/", "/metrics", "//status", "///status", "/status/", "/status//", "/./status/.", "/x/../status", "/Status",
        "/STATUS", "/status%20", "/status%00", "/status;a=b", "/status%2f", "/status%3F", "/%2fstatus", "/status.json",
        "/drain/", "//drain", "/reload%0a", "/live/", "*",
    ],
)  # fmt: skip
async def test_no_other_spelling_of_a_path_is_an_endpoint(told: Told, target: str) -> None:
    for method in ("GET", "POST"):
        answer = await ask(told, method, target)
        assert answer.status == 404
        assert answer.json() == {"endpoints": ["/live", "/ready", "/status", "/saturation", "/drain", "/reload"]}
    assert told.calls == []


async def test_an_encoded_letter_is_that_letter_and_is_let_in_no_further(told: Told) -> None:
    """Servers decode the path, so `/%73tatus` is `/status`: with the same door before it."""
    assert (await ask(told, "GET", "/%73tatus")).status == 200
    assert (await ask(told, "GET", "/%73tatus", client="192.0.2.9")).status == 403
    assert (await ask(told, "GET", "/%73tatus", token=TOKEN)).status == 401


async def test_a_target_with_a_host_of_its_own_is_asked_for_its_host_header(told: Told) -> None:
    assert (await ask(told, "GET", "http://localhost:9901/status", ("Host", "evil.example"))).status == 403


async def test_the_lifespan_is_answered(told: Told) -> None:
    sent: list[str] = []
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(messages)}

    async def send(message: dict[str, str]) -> None:
        sent.append(message["type"])

    await Admin(told)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_no_request() -> None:
    async def nothing(*_: object) -> None:
        raise AssertionError("not reached")

    with pytest.raises(RuntimeError, match="websocket"):
        await Admin(Told())(http_scope("GET", "/status", kind="websocket"), nothing, nothing)


# -- who may ask, without a token


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        (None, True),
        ("", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("192.0.2.9", False),
        ("0.0.0.0", False),
        ("128.0.0.1", False),
        ("::", False),
        ("::2", False),
        ("fe80::1", False),
        ("::ffff:192.0.2.9", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("localhost", False),
        ("127.1", False),
        ("unix", False),
    ],
)
@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_only_this_machine_may_ask_without_a_token(
    told: Told, method: str, path: str, client: str | None, allowed: bool
) -> None:
    answer = await ask(told, method, path, client=client)
    assert answer.status == (200 if allowed else 403)
    assert bool(told.calls) is allowed


@pytest.mark.parametrize("client", ["192.0.2.9", "::ffff:192.0.2.9", None, "127.0.0.1"])
@pytest.mark.parametrize("path", ["/live", "/ready"])
async def test_probes_come_from_anywhere_and_name_any_host(told: Told, client: str | None, path: str) -> None:
    assert (await ask(told, "GET", path, ("Host", "10.1.2.3:9901"), client=client)).status == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("localhost:9901", True),
        ("LOCALHOST:9901", True),
        ("127.0.0.1:9901", True),
        ("127.8.0.1", True),
        ("[::1]", True),
        ("[::1]:9901", True),
        ("[::ffff:127.0.0.1]:9901", True),
        ("", True),
        ("evil.example", False),
        ("evil.example:9901", False),
        ("localhost.", False),
        ("localhost.evil.example", False),
        ("evil.localhost", False),
        ("127.0.0.1.evil.example", False),
        ("127.1", False),
        ("2130706433", False),
        ("0x7f.0.0.1", False),
        ("127.0.0.01", False),
        ("0.0.0.0:9901", False),
        ("[::]:9901", False),
        ("192.0.2.9:9901", False),
        ("evil.example@localhost", False),
        ("localhost@evil.example", False),
        ("localhost,evil.example", False),
        ("localhost evil.example", False),
        ("1:1", False),
    ],
)
async def test_a_host_that_is_not_this_machine_is_a_page_that_rebound_its_name(
    told: Told, host: str, allowed: bool
) -> None:
    answer = await ask(told, "POST", "/reload", ("Host", host))
    assert answer.status == (200 if allowed else 403)
    assert bool(told.calls) is allowed


async def test_of_two_hosts_the_first_counts(told: Told) -> None:
    """Browsers send one; the server's own clients cannot be made to send a second."""
    assert (await ask(told, "GET", "/status", ("Host", "evil.example"), ("Host", "localhost"))).status == 403


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (("Origin", "https://evil.example"), False),
        (("Origin", "null"), False),
        (("Origin", ""), False),
        (("Origin", "http://localhost:9901"), False),
        (("ORIGIN", "https://evil.example"), False),
        (("Sec-Fetch-Site", "cross-site"), False),
        (("Sec-Fetch-Site", "same-site"), False),
        (("Sec-Fetch-Site", "same-origin"), False),
        (("Sec-Fetch-Site", ""), False),
        (("Sec-Fetch-Site", "none, cross-site"), False),
        (("Sec-Fetch-Site", "none"), True),
        (("Referer", "https://evil.example/"), True),
        (("X-Forwarded-For", "192.0.2.9"), True),
    ],
)
async def test_no_web_page_may_ask(told: Told, header: tuple[str, str], allowed: bool) -> None:
    for client in (LOCAL, None):
        answer = await ask(told, "POST", "/reload", header, client=client)
        assert answer.status == (200 if allowed else 403)
    assert told.calls == (["reload", "reload"] if allowed else [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", LOCAL),
        ("Forwarded", f"for={LOCAL}"),
        ("X-Real-IP", LOCAL),
        ("X-Forwarded-Host", "localhost"),
    ],
)
async def test_a_header_makes_nobody_local(told: Told, name: str, value: str) -> None:
    assert (await ask(told, "GET", "/status", (name, value), client="192.0.2.9")).status == 403


async def test_a_refusal_tells_nothing_of_the_gateway(told: Told) -> None:
    for answer in (
        await ask(told, "GET", "/status", client="192.0.2.9"),
        await ask(told, "GET", "/status", ("Host", "evil.example")),
        await ask(told, "GET", "/status", ("Origin", "null")),
        await ask(told, "GET", "/status", token=TOKEN),
    ):
        assert list(answer.json()) == ["error"]
        assert TOKEN not in answer.text
