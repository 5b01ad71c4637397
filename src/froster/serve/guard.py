"""Access control: token, and protection from requests by other sites' pages (CSRF, DNS rebinding)."""

import hmac
import ipaddress
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from froster.serve.errors import RequestError, internal, log
from froster.serve.settings import ServeSettings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
}


def error_answer(error: RequestError, headers: Mapping[str, str] = MappingProxyType({})) -> JSONResponse:
    retry = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    signs_in = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return JSONResponse(
        {"error": {"code": error.code, "message": str(error)}}, error.status, headers={**retry, **signs_in, **headers}
    )


class Guard:
    """ASGI middleware: checks every request, adds security headers, and reports `(path, status, seconds)` of each."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, answered: Callable[[Scope, int, float], None]) -> None:
        self.app, self.settings, self.answered = app, settings, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = with_root_path(scope, self.settings.root_path)
        begin, status, started = time.monotonic(), 500, False
        is_head = scope["method"] == "HEAD"
        if is_head:  # answered as GET
            scope["method"] = "GET"

        async def send_with_headers(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            elif is_head:
                message["body"] = b""
            await send(message)

        try:
            try:
                check_request(scope, self.settings)
            except RequestError as error:
                await error_answer(error)(scope, receive, send_with_headers)
                return
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = 499  # the client has disconnected
        except Exception as error:
            log.error("A request failed.", exc_info=error)
            if started:
                raise
            await error_answer(internal())(scope, receive, send_with_headers)
        finally:
            self.answered(scope, status, time.monotonic() - begin)


def with_root_path(scope: Scope, root_path: str) -> Scope:
    """A copy whose path starts with the prefix, whether or not the proxy removed it.

    The copy also lets the server see the method that was asked for: it leaves out the body of HEAD.
    """
    path, prefix = scope["path"], scope.get("root_path") or root_path
    has_prefix = path == prefix or path.startswith(f"{prefix}/")
    return {**scope, "root_path": prefix, "path": path if has_prefix else prefix + path}


def check_request(scope: Scope, settings: ServeSettings) -> None:
    """Raises `RequestError` for a request that comes from a foreign page, or without the token."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    # With DNS rebinding, the foreign name is still in the header.
    if settings.is_local and not is_own_name(host, settings.host):
        raise RequestError(403, "wrong_host", f"This server answers to localhost, not to {host!r}.")
    origin = headers.get("origin")
    foreign = headers.get("sec-fetch-site") == "cross-site" or (origin is not None and not is_page_of(origin, host))
    if scope["method"] not in SAFE_METHODS and foreign:
        raise RequestError(403, "cross_site", "Another site's page may not send requests to this server.")
    if settings.token and needs_token(scope):
        kind, _, token = headers.get("authorization", "").partition(" ")
        # As bytes: headers may contain non-ASCII text.
        given = token.strip().encode("latin-1", "replace")
        if kind.lower() != "bearer" or not hmac.compare_digest(given, settings.token.encode()):
            raise RequestError(401, "unauthorized", "This server needs its token: Authorization: Bearer TOKEN.")


def needs_token(scope: Scope) -> bool:
    path = get_route_path(scope)  # the path for the router
    return path == "/metrics" or path.startswith("/v1/")


def is_page_of(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def is_own_name(host: str, own: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", own):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
