"""A WSGI layer that lets nobody change a search, nor a foreign page or a stranger read one."""

from __future__ import annotations

import hmac
import html
import ipaddress
import json
import re
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
COOKIE = "nas-dashboard"

WRITABLE = (
    ("PUT", re.compile(r"/api/studies/\d+(/\d+)?/note")),
    ("POST", re.compile(r"/api/artifacts/\d+(/\d+)?")),
    ("DELETE", re.compile(r"/api/artifacts/\d+/[0-9a-fA-F-]+")),
)
"""What may be written where writing is allowed at all: notes, and artifacts of a study or of a running trial.

All else that optuna-dashboard could change (deleting, renaming and making studies, ending a running trial, attributes
that samplers and pruners read) belongs to the search and to its records beside Optuna's tables.
"""

_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Guard:
    """Pass on to `application` what may be asked of it, and answer the rest with a plain word.

    optuna-dashboard has no login and no check of its own: any page that the same browser opens could delete a study by
    a DELETE, or read it by a name that its DNS turns to this machine (DNS rebinding). The Host header betrays the
    second, Origin the first. Host is held to names that no other page can have: this machine's, and, open to the
    network, addresses in figures, which no DNS can turn.

    Args:
        application: what to protect.
        hosts: names, without port, that the Host header may give, in lower case.
        addresses: any address in figures may be given as well.
        writable: let through what `WRITABLE` names, from the dashboard's own pages; else GET and HEAD only.
        token: asked for, once in the address (``?token=``) and in a cookie from then on; None asks for nothing.
    """

    def __init__(
        self,
        application: WSGIApplication,
        hosts: frozenset[str],
        *,
        addresses: bool = False,
        writable: bool = False,
        token: str | None = None,
    ) -> None:
        self._application = application
        self._hosts = hosts
        self._addresses = addresses
        self._writable = writable
        self._token = token

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        if not self._is_ours(host):
            return _refuse(start_response, "403 Forbidden", "this dashboard does not answer to that Host")
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "").rstrip("/")
        writes = method not in ("GET", "HEAD")
        if writes and not (
            self._writable and any(method == one and pattern.fullmatch(path) for one, pattern in WRITABLE)
        ):
            reason = "only notes and artifacts may be written here; a study is changed by nas itself"
            reason = reason if self._writable else "this dashboard is read-only"
            return _refuse(start_response, "405 Method Not Allowed", reason, ("Allow", "GET, HEAD"))
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not _same_origin(origin, host):
            return _refuse(start_response, "403 Forbidden", "this dashboard does not answer to other pages")
        if writes and origin is None:  # every browser gives it when it writes
            return _refuse(start_response, "403 Forbidden", "a request that writes has to give its Origin")
        refused = self._without_token(environ, start_response)
        if refused is not None:
            return refused
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # optuna-dashboard 0.21 fails without the header

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            # optuna-dashboard lets every page read artifacts (Access-Control-Allow-Origin: *)
            kept = [one for one in headers if one[0].lower() != "access-control-allow-origin"]
            return start_response(status, [*kept, *_ALWAYS], *more)

        return self._application(environ, start)

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        return name in self._hosts or (self._addresses and _is_address(name))

    def _without_token(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes] | None:
        """An answer to who has not shown the token, or shows it in the address; None to who has its cookie."""
        if self._token is None:
            return None
        name = f"{COOKIE}-{environ.get('SERVER_PORT', '')}"  # cookies do not tell ports apart
        given = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get("token")
        if given:
            if not _equal(given[-1], self._token):
                return _refuse(start_response, "403 Forbidden", f"the token is wrong; {_ASK}")
            return _enter(start_response, environ.get("PATH_INFO", ""), f"{name}={self._token}")
        try:
            cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(name)
        except CookieError:
            cookie = None
        if cookie is None:
            return _refuse(start_response, "401 Unauthorized", f"this dashboard asks for a token; {_ASK}")
        if not _equal(cookie.value, self._token):
            return _refuse(start_response, "403 Forbidden", f"the token is of an earlier dashboard; {_ASK}")
        return None


_ASK = "open the address that nas dashboard printed when it was started"


def _name(host: str) -> str:
    """The name in a Host header, without port, in lower case; an IPv6 address keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _same_origin(origin: str, host: str) -> bool:
    """Whether an Origin is the page that this Host header's server gave out; ``null`` is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _enter(start_response: StartResponse, path: str, cookie: str) -> list[bytes]:
    """A page that keeps the token as a cookie and goes on without it in the address.

    It is a page and no redirect, because a browser that comes from another page would not send a SameSite=Strict
    cookie along a redirect.
    """
    target = html.escape(path if path.startswith("/dashboard") else "/dashboard", quote=True)
    body = f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={target}"><a href="{target}">dashboard</a>'
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body.encode()))),
        ("Set-Cookie", f"{cookie}; Path=/; HttpOnly; SameSite=Strict"),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'"),
        ("Referrer-Policy", "no-referrer"),
    ]
    start_response("200 OK", headers)
    return [body.encode()]


def _refuse(start_response: StartResponse, status: str, reason: str, *headers: tuple[str, str]) -> list[bytes]:
    body = json.dumps({"reason": reason}).encode()
    about = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    start_response(status, [*about, *headers])
    return [body]
