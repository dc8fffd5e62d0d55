"""Keys that clients show: kept as hashes, compared in constant time, never written anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from deepseek.errors import InputError
from deepseek.serving.http.problems import RefusedError

VARIABLE = "DEEPSEEK_KEYS"
_ADMIN = "admin:"
_LEAST_CHARACTERS = 16


class Keys:
    """The keys of a server; none means that whoever reaches it may ask, and that nobody may load models over HTTP.

    Args:
        keys: Each a key; `admin:KEY` for one that may also load models and see to experiments.

    Raises:
        InputError: A key is too short to be a secret.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._user: list[bytes] = []
        self._admin: list[bytes] = []
        for key in keys:
            kept = self._admin if key.startswith(_ADMIN) else self._user
            secret = key.removeprefix(_ADMIN)
            if len(secret) < _LEAST_CHARACTERS:
                raise InputError(
                    f"a key has {len(secret)} characters; at least {_LEAST_CHARACTERS} are needed",
                    hint="make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
                )
            kept.append(sha256(secret.encode()).digest())

    @classmethod
    def read(cls, path: str | None) -> Keys:
        """Read keys from a file, one a line (`#` begins a comment), and from the environment's `DEEPSEEK_KEYS`, parted by blanks.

        Raises:
            InputError: The file cannot be read, or holds no key.
        """
        keys = os.environ.get(VARIABLE, "").split()
        if path is not None:
            hint = "name a file with one key a line: --keys FILE"
            try:
                lines = Path(path).read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                raise InputError(f"there is no file {path} with keys", hint=hint) from None
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"the keys {path} cannot be read: {error}", hint=hint) from None
            found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
            if not found:
                raise InputError(f"the file {path} holds no key", hint="write one key a line")
            keys += found
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._user or self._admin)

    def name_of(self, headers: dict[bytes, bytes]) -> str:
        """Return what a log may call the key that a request shows: the beginning of its hash."""
        given = _given(headers)
        return f"key {sha256(given).hexdigest()[:8]}" if given else "nobody"

    def require(self, headers: dict[bytes, bytes], *, admin: bool = False) -> None:
        """See that a request shows a right key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Raises:
            RefusedError: It shows none or a wrong one (401), or one that may not do this (403).
        """
        if not self and not admin:
            return
        if admin and not self._admin:
            raise RefusedError(403, "no key of this server may load models", hint="give it one: a line admin:KEY in the file of keys")
        given = _given(headers)
        digest = sha256(given).digest()
        # every key is compared, so that the time says nothing of which one was near
        is_admin = sum([compare_digest(digest, key) for key in self._admin]) > 0
        is_user = sum([compare_digest(digest, key) for key in self._user]) > 0
        if not (is_admin or is_user):
            raise RefusedError(
                401, "a key is needed" if not given else "the key is not right", hint="send the header Authorization: Bearer KEY",
                headers={"WWW-Authenticate": 'Bearer realm="deepseek"'},
            )  # fmt: skip
        if admin and not is_admin:
            raise RefusedError(403, "this key may ask models, not load them", hint="use a key of the kind admin:KEY")


def _given(headers: dict[bytes, bytes]) -> bytes:
    given = headers.get(b"x-api-key")
    if given is None:
        scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
        given = rest.strip() if scheme.lower() == b"bearer" else b""
    return given.removeprefix(_ADMIN.encode())  # as it stands in the file of keys: meant all the same
