"""Asking a web server, and telling the problems that may pass from those that will not."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from behavior.errors import UserError

# Compressed on the way, positions in the file would mean nothing.
_HEADERS = {"User-Agent": "lrm-kit", "Accept-Encoding": "identity"}
_TIMEOUT = 60.0
_LONGEST_WAIT = 60.0
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class BrokenOffError(Exception):
    """The transfer broke off for a reason that may pass; `wait` is the pause the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


def ask(url: str, headers: dict[str, str] | None = None) -> Any:
    """Ask for a file, or by a `Range` header for a part of it.

    Returns:
        The open response; its status is 200, 206, or 416 where the range begins behind the end.

    Raises:
        BrokenOffError: no connection, or a busy server.
        UserError: any other answer, or a certificate that is not valid.
    """
    try:
        return _open(urllib.request.Request(url, headers={**_HEADERS, **(headers or {})}))
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        with error:
            raise _http_problem(url, error) from None
    except urllib.error.URLError as error:
        raise _network_problem(url, error.reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise _network_problem(url, error) from None


def size_of(url: str) -> int | None:
    """Size of a file as its server tells it; None where it does not, or cannot be reached."""
    try:
        with _open(urllib.request.Request(url, headers=_HEADERS, method="HEAD")) as response:
            return content_length(response)
    except (OSError, http.client.HTTPException):
        return None


def content_length(response: Any) -> int | None:
    """Bytes of a response's body; None where the server does not tell."""
    length = response.headers.get("Content-Length")
    return int(length) if length is not None and length.isdigit() else None


def _open(request: urllib.request.Request) -> Any:
    return urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but from HTTPS to nothing less."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise UserError(f"the server redirects to '{newurl}', which is not safe", where=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _http_problem(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in _TRY_AGAIN:
        asked = error.headers.get("Retry-After") or ""
        wait = min(float(asked), _LONGEST_WAIT) if asked.isdigit() else 0.0
        return BrokenOffError(f"the server answers {error.code} {error.reason}", wait)
    if error.code in (404, 410):
        fix = "it may have moved: see the home page of the data set"
    else:
        fix = "see the home page of the data set, or try later"
    return UserError(f"the server answers {error.code} {error.reason}", where=url, fix=fix)


def _network_problem(url: str, reason: Any) -> Exception:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return UserError(
            f"the server's certificate is not valid: {reason.verify_message}",
            where=url,
            fix="check the clock and the certificates of this machine; or the server's has run out",
        )
    return BrokenOffError(f"no connection to {urlsplit(url).hostname} ({reason})")
