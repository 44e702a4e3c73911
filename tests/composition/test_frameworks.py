"""Policies around the middlewares of Starlette and of Django, and within them, as services really stack them."""

from __future__ import annotations

import gzip
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from gatekit.asgi import Policies
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.verdict import Reply
from gatekit.testing import Closes, Log, Probe, Replacing, call, call_wsgi, test_ports
from gatekit.wsgi import Policies as WsgiPolicies


def identify(exchange: Exchange) -> None:
    exchange.identity = Identity("ann", scopes=frozenset({"read"}), scheme="test")


def refuse(exchange: Exchange) -> Reply:
    return Reply(403, "probe.refused")


async def home(request: Request) -> Response:
    return PlainTextResponse("x" * 2000)


async def user(request: Request) -> Response:
    return JSONResponse([request.user.display_name, sorted(request.auth.scopes)])


async def session(request: Request) -> Response:
    request.session["seen"] = request.session.get("seen", 0) + 1
    return JSONResponse(request.session["seen"])


async def body(request: Request) -> Response:
    return Response(await request.body())


async def broken(request: Request) -> Response:
    raise LookupError("the app broke")


async def stream(request: Request) -> Response:
    async def parts() -> Any:
        for number in range(3):
            yield f"{number} "

    return StreamingResponse(parts())


async def where(request: Request) -> Response:
    return PlainTextResponse(f"{request.url.path} {request.scope.get('root_path')}")


def starlette(*middleware: Middleware, log: Log | None = None) -> Any:
    async def later(request: Request) -> Response:
        background = BackgroundTask(lambda: log.append(("app", "background")) if log is not None else None)
        return PlainTextResponse("ok", background=background)

    endpoints = [home, user, session, body, broken, stream, later]
    routes: list[Any] = [Route(f"/{one.__name__}", one, methods=["GET", "POST"]) for one in endpoints]
    return Starlette(routes=[*routes, Mount("/mnt", routes=[Route("/where", where)])], middleware=list(middleware))


def ours(*specs: Any) -> Middleware:
    return Middleware(Policies, *specs, ports=test_ports())


class Base(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-base"] = "1"
        return response


async def test_outside_of_gzip_the_compressed_body_passes() -> None:
    log: Log = []
    app = starlette(ours(Probe("a", log)), Middleware(GZipMiddleware))
    response = await call(app, target="/home", headers={"accept-encoding": "gzip"})
    assert gzip.decompress(response.body) == b"x" * 2000
    assert log[-1] == ("a", "observe", 200, "nobody")


async def test_inside_of_gzip_a_filtered_body_is_compressed_after_it() -> None:
    app = starlette(Middleware(GZipMiddleware), ours(Probe("a", [], body_filter=lambda *_: Replacing(tail=b"!"))))
    response = await call(app, target="/home", headers={"accept-encoding": "gzip"})
    assert gzip.decompress(response.body) == b"X" * 2000 + b"!"


async def test_inside_of_cors_a_refusal_still_carries_cors_headers_and_a_preflight_never_comes_in() -> None:
    log: Log = []
    app = starlette(Middleware(CORSMiddleware, allow_origins=["https://a.test"]), ours(Probe("a", log, decide=refuse)))
    response = await call(app, target="/home", headers={"origin": "https://a.test"})
    assert (response.status, response.header("access-control-allow-origin")) == (403, "https://a.test")
    log.clear()
    asks = {"origin": "https://a.test", "access-control-request-method": "GET"}
    assert (await call(app, "OPTIONS", "/home", headers=asks)).status == 200
    assert log == []


@pytest.mark.parametrize("outside", [True, False], ids=["ours outside", "ours inside"])
async def test_sessions_keep_their_cookies(outside: bool) -> None:
    policy = ours(Probe("a", [], on_response=lambda _, head: head.append("set-cookie", "ours=1")))
    theirs = Middleware(SessionMiddleware, secret_key="k")
    app = starlette(*([policy, theirs] if outside else [theirs, policy]))
    first = await call(app, target="/session")
    cookies = first.headers.get_all("set-cookie")
    assert len(cookies) == 2
    kept = next(one for one in cookies if one.startswith("session=")).partition(";")[0]
    assert (await call(app, target="/session", headers={"cookie": kept})).json() == 2


@pytest.mark.parametrize("outside", [True, False], ids=["ours outside", "ours inside"])
@pytest.mark.parametrize("path", ["/home", "/stream", "/later"])
async def test_with_a_base_http_middleware(outside: bool, path: str) -> None:
    log: Log = []
    policy, theirs = ours(Probe("a", log, body_filter=lambda *_: Replacing())), Middleware(Base)
    app = starlette(*([policy, theirs] if outside else [theirs, policy]), log=log)
    response = await call(app, target=path)
    assert response.header("x-base") == "1"
    assert response.body == response.body.upper()
    assert response.body
    assert [entry for entry in log if entry[1] == "observe"] == [("a", "observe", 200, "nobody")]
    if path == "/later":
        assert ("app", "background") in log


@pytest.mark.parametrize("outside", [True, False], ids=["ours outside", "ours inside"])
async def test_a_buffered_body_reaches_the_endpoint_through_a_base_http_middleware(outside: bool) -> None:
    policy, theirs = ours(Probe("a", [], needs_body=64)), Middleware(Base)
    app = starlette(*([policy, theirs] if outside else [theirs, policy]))
    assert (await call(app, "POST", "/body", body=[b"one ", b"two"])).body == b"one two"


async def test_the_identity_is_starlettes_user() -> None:
    app = starlette(ours(Probe("a", [], decide=identify)))
    assert (await call(app, target="/user")).json() == ["ann", ["read"]]


async def test_starlettes_own_authentication_inside_replaces_ours() -> None:
    from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser

    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            return AuthCredentials(["theirs"]), SimpleUser("bob")

    app = starlette(ours(Probe("a", [], decide=identify)), Middleware(AuthenticationMiddleware, backend=Backend()))
    assert (await call(app, target="/user")).json() == ["bob", ["theirs"]]


async def test_the_error_middleware_sees_the_exception_once_and_answers_500() -> None:
    """Middlewares stand inside of Starlette's ServerErrorMiddleware, so its 500 is not a response that passes us."""
    log: Log = []
    response = await call(starlette(ours(Probe("a", log))), target="/broken", raise_app_exceptions=False)
    assert response.status == 500
    assert isinstance(response.error, LookupError)
    assert log == [("a", "decide"), ("a", "observe", None, "app")]


async def test_around_the_whole_app_the_500_of_the_error_middleware_passes() -> None:
    log: Log = []
    app = Policies(starlette(), Probe("a", log), ports=test_ports())
    response = await call(app, target="/broken", raise_app_exceptions=False)
    assert response.status == 500
    assert isinstance(response.error, LookupError)
    assert log == [("a", "decide"), ("a", "on_response", 500), ("a", "observe", 500, "app")]


async def test_within_a_mount_policies_see_the_path_below_it_and_the_app_sees_the_whole() -> None:
    paths: list[str] = []

    def note(exchange: Exchange) -> None:
        paths.append(exchange.path)

    inner: Any = Starlette(routes=[Route("/where", where)])
    gated: Any = Policies(inner, Probe("a", [], decide=note), ports=test_ports())
    app = Starlette(routes=[Mount("/mnt", app=gated)])
    assert (await call(app, target="/mnt/where")).body == b"/mnt/where /mnt"
    assert paths == ["/where"]


# -- Django


@pytest.fixture(scope="module")
def django_urls() -> Iterator[None]:
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
    from django.urls import path

    def home(request: HttpRequest) -> HttpResponse:
        return HttpResponse("x" * 2000)

    def echo(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.body)

    def seen(request: HttpRequest) -> HttpResponse:
        return JsonResponse({"path": request.path, "x": request.headers.get("x-set")})

    def stream(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(iter([b"one ", b"two"]))

    def broken(request: HttpRequest) -> HttpResponse:
        raise LookupError("the app broke")

    urls = types.ModuleType("gatekit_composition_urls")
    views = {"home": home, "echo": echo, "seen": seen, "stream": stream, "broken": broken}
    urls.urlpatterns = [path(name, view) for name, view in views.items()]  # type: ignore[attr-defined]
    sys.modules[urls.__name__] = urls
    if not settings.configured:
        settings.configure(
            ROOT_URLCONF=urls.__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="k", LOGGING_CONFIG=None,
            MIDDLEWARE=[
                "django.middleware.security.SecurityMiddleware",
                "django.middleware.gzip.GZipMiddleware",
                "django.middleware.common.CommonMiddleware",
                "django.middleware.http.ConditionalGetMiddleware",
                "django.middleware.clickjacking.XFrameOptionsMiddleware",
            ],
        )  # fmt: skip
        import django

        django.setup()
    yield
    del sys.modules[urls.__name__]


@pytest.fixture(params=["asgi", "wsgi"])
def django_call(request: pytest.FixtureRequest, django_urls: None) -> Any:
    """Calls Django's own application behind policies, under either interface."""
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    async def go(specs: list[Any], method: str = "GET", target: str = "/home", **given: Any) -> Any:
        if request.param == "asgi":
            app: Any = get_asgi_application()
            return await call(Policies(app, *specs, ports=test_ports()), method, target, **given)
        closes = Closes(get_wsgi_application())
        response = call_wsgi(WsgiPolicies(closes, *specs, ports=test_ports()), method, target, **given)
        assert closes.opened == closes.closed
        return response

    return go


async def test_django_answers_through_its_own_middlewares(django_call: Any) -> None:
    log: Log = []
    response = await django_call([Probe("a", log)], headers={"accept-encoding": "gzip"})
    assert gzip.decompress(response.body) == b"x" * 2000
    assert response.header("x-frame-options") == "DENY"
    assert log[-1] == ("a", "observe", 200, "nobody")


async def test_django_gets_bodies_headers_and_paths_as_the_policies_left_them(django_call: Any) -> None:
    buffering = Probe("a", [], needs_body=64, decide=lambda exchange: exchange.headers.set("x-set", "ours"))
    assert (await django_call([buffering], "POST", "/echo", body=b"hello")).body == b"hello"
    assert (await django_call([Probe("b", [])], "POST", "/echo", body=b"hello")).body == b"hello"
    assert (await django_call([buffering], target="/x/..//seen")).json() == {"path": "/seen", "x": "ours"}


async def test_header_names_that_django_sends_in_upper_case_are_found_by_hooks(django_call: Any) -> None:
    """The ASGI specification wants lower case and Django does not care: hooks look names up in lower case."""
    types: list[str | None] = []
    probe = Probe(
        "a", [], on_response=lambda _, head: types.append(head.get("content-type")),
        body_filter=lambda *_: Replacing(tail=b"!"),
    )  # fmt: skip
    response = await django_call([probe])
    assert types == ["text/html; charset=utf-8"]
    assert response.header("content-length") is None
    assert response.body.endswith(b"!")


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
async def test_django_streams_through_a_filter(django_call: Any) -> None:
    response = await django_call([Probe("a", [], body_filter=lambda *_: Replacing(tail=b"!"))], target="/stream")
    assert response.body == b"ONE TWO!"


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_django_turns_its_exceptions_into_500_itself(django_call: Any) -> None:
    log: Log = []
    response = await django_call([Probe("a", log)], target="/broken")
    assert response.status == 500
    assert log[-1] == ("a", "observe", 500, "app")


async def test_django_is_not_asked_when_a_policy_refuses(django_call: Any) -> None:
    response = await django_call([Probe("a", [], decide=refuse)])
    assert response.status == 403
    assert response.header("x-frame-options") is None
