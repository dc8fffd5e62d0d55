"""What a client is told when a request cannot be answered: problem documents (RFC 9457, https://www.rfc-editor.org/rfc/rfc9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from deepseek.errors import DeepSeekError

if TYPE_CHECKING:
    import pyarrow as pa

MEDIA_TYPE = b"application/problem+json"


class RefusedError(DeepSeekError):
    """A request that is not answered.

    Args:
        status: The HTTP status.
        detail: What was given and what is allowed.
        hint: What to do about it.
        headers: Headers of the response, such as `Retry-After`.
        members: More members of the problem document, such as `errors`.
    """

    def __init__(
        self, status: int, detail: str, *, hint: str | None = None, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail, hint=hint)
        self.status = status
        self.headers = dict(headers or {})
        self.members = members

    def document(self, request_id: str) -> dict[str, Any]:
        """Return the problem document."""
        value = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.message}
        return {**value, **({"hint": self.hint} if self.hint else {}), **self.members, "request_id": request_id}


class RowsLostError(DeepSeekError):
    """Rows that cannot be answered, as whatever answers them dies of them; the others are answered.

    Args:
        lost: Why, by the row's place.
        answers: The answers of the other rows, in their order.
    """

    def __init__(self, lost: Mapping[int, str], answers: pa.Table) -> None:
        super().__init__(f"{len(lost):,} rows cannot be answered: {next(iter(lost.values()), '')}")
        self.lost, self.answers = dict(lost), answers


class ClientGoneError(DeepSeekError):
    """The client has closed its connection: nobody waits for the answer."""
