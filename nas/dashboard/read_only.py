"""A WSGI layer that lets nobody change a study, nor a foreign page read one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class ReadOnly:
    """Pass GET and HEAD on to `application`; answer 405 to every other method and 403 to a foreign Host.

    optuna-dashboard has no login and no check of its own: any page that the same browser opens could delete a study
    by a DELETE, or read it by a name that its DNS turns to 127.0.0.1 (DNS rebinding). The Host header betrays that.

    Args:
        application: what to protect.
        hosts: names, without port, that the Host header may give; None allows all.
    """

    def __init__(self, application: WSGIApplication, hosts: frozenset[str] | None) -> None:
        self._application = application
        self._hosts = hosts

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._hosts is not None and _name(environ.get("HTTP_HOST", "")) not in self._hosts:
            return _refuse(start_response, "403 Forbidden", "this dashboard answers on localhost only", [])
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            allow = [("Allow", "GET, HEAD")]
            return _refuse(start_response, "405 Method Not Allowed", "this dashboard is read-only", allow)
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")  # optuna-dashboard 0.21 fails without the header
        return self._application(environ, start_response)


def _name(host: str) -> str:
    """The name in a Host header, without port, in lower case; an IPv6 address keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _refuse(start_response: StartResponse, status: str, reason: str, headers: list[tuple[str, str]]) -> list[bytes]:
    body = f'{{"reason": "{reason}"}}'.encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers])
    return [body]
