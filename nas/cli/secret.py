"""What others may see of a command: every user of a machine can list the words of all its processes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

STORAGE = "NAS_STORAGE"
"""Environment variable in place of ``--storage``; a process's environment is for its own user to read."""
_PASSWORD = re.compile(r"://[^:/@\s]*:[^@\s]+@|[?&][^=&\s]*password[^=&\s]*=", re.IGNORECASE)
_SHOWN = re.compile(r"(://[^:/@\s]*:)[^@\s]+@|([?&][^=&\s]*password[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Words for a terminal or a log, without the passwords of the URLs in them."""
    return _SHOWN.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)


def conceal(words: Sequence[str]) -> None:
    """Take a password in ``--storage`` off this process's words: it begins anew with the URL in its environment.

    The kernel keeps the words that a process was begun with, so only a new beginning takes them away; it has the same
    number and costs a Python's start. Where there is no password this does nothing.

    Args:
        words: of this process, after ``nas``.
    """
    kept, url = _without_storage(words)
    begun = sys.orig_argv
    own = begun[: len(begun) - len(words)]  # the interpreter with its options, and the script or module
    if url is None or not _PASSWORD.search(url) or [*own, *words] != begun or not sys.executable:
        return
    os.execve(sys.executable, [*own, *kept], {**os.environ, STORAGE: url})  # noqa: S606  (this very command, no shell)


def _without_storage(words: Sequence[str]) -> tuple[list[str], str | None]:
    kept: list[str] = []
    url, rest = None, iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--storage":
            url = value if equals else next(rest, None)
        else:
            kept.append(word)
            if word == "--":
                break
    return [*kept, *rest], url
