"""Where the injected figures stand in optuna-dashboard's page, and how the page fits a phone: a few lines of CSS.

The page lays its cards out in fixed halves, in no order for figures from outside, and knows one width. Where its next
version has other classes, these rules do nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nas.dashboard.figures import ORDER

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PLACES = "\n".join(
    f'.MuiGrid-root:has(> .MuiPaper-root [id="user-defined-plot:{name}"]) {{ order: {place - len(ORDER)}; }}'
    for place, name in enumerate(ORDER)
)
STYLE = f"""<style>
.MuiGrid-root:has(> .MuiPaper-root [id^="user-defined-plot:nas-"]) {{ padding: 16px 0 0 16px; }}
{_PLACES}
.MuiGrid-root:has(> .MuiPaper-root [id="user-defined-plot:{ORDER[0]}"]) {{ flex-basis: 100%; max-width: 100%; }}
[id="user-defined-plot:{ORDER[0]}"] {{ height: 560px !important; }}
main table:not([class]) :is(td, th) {{ padding: 2px 14px 2px 0; text-align: right; }}
@media (max-width: 900px) {{
  .modebar {{ display: none !important; }}
  main, main .MuiGrid-root, main .MuiPaper-root {{ min-width: 0; }}
  main .MuiGrid-grid-xs-3, main .MuiGrid-grid-xs-6, main .MuiGrid-grid-xs-9 {{ flex-basis: 100%; max-width: 100%; }}
}}
</style>
"""
_END = b"</head>"


class Styled:
    """Add `STYLE` to the pages of `application`; what else it answers passes through."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith("/dashboard"):
            return self._application(environ, start_response)
        for name in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE"):
            environ.pop(name, None)  # a part of the page, or an earlier one, could not be styled
        begun: list[tuple[str, list[tuple[str, str]], tuple[Any, ...]]] = []

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            begun.append((status, headers, more))
            return lambda _: None

        found = self._application(environ, start)
        try:
            body = b"".join(found)
        finally:
            close = getattr(found, "close", None)
            if close is not None:
                close()
        status, headers, more = begun[-1]
        if _END in body:
            body = body.replace(_END, STYLE.encode() + _END, 1)
        if body:  # of HEAD there is none, and its length is the page's own
            headers = [one for one in headers if one[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start_response(status, headers, *more)
        return [body]
