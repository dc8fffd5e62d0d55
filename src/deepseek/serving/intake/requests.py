"""The contents of one request: its body as it is, the parts of a form, or flow files one behind the other."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator, Mapping, Sequence

from deepseek.serving.http.forms import FormPart, find_parts
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.intake.attributes import attributes_of
from deepseek.serving.intake.contents import Given, checked_id
from deepseek.serving.intake.flowfiles import MEDIA_TYPE as FLOW_FILES
from deepseek.serving.intake.flowfiles import find_flow_files
from deepseek.serving.intake.spool import Body

FORM = "multipart/form-data"


class Contents:
    """What one request brings; each content is cut out when its turn comes, so that not all of them are copied at once.

    Args:
        topic: Where it was posted to.
        body: The whole body.
        headers: The request's headers, their names in small letters.
        attributes: Patterns of more headers that are attributes.

    Raises:
        RefusedError: The body is no form, or no sequence of flow files, though it says it is; or the id is none.
    """

    def __init__(self, topic: str, body: Body, headers: Mapping[bytes, bytes], *, attributes: Sequence[str] = ()) -> None:
        self._topic, self._body = topic, body
        self._attributes = attributes_of(headers, attributes)
        raw = headers.get(b"content-type", b"")
        self._type = raw.decode("latin-1")
        given = headers.get(b"idempotency-key", b"").decode("latin-1").strip().strip('"') or self._attributes.get("uuid")
        self._id = checked_id(given) if given else None
        kind = self._type.partition(";")[0].strip().lower()
        self._parts: list[FormPart] = []
        self._files = []
        self._fields: dict[str, str] = {}
        if kind == FORM:
            self._read_form(raw)
        elif kind == FLOW_FILES:
            with body.open() as file:
                self._files = find_flow_files(file, body.size)

    @property
    def single(self) -> bool:
        """Whether there is one content and no more."""
        return max(len(self._parts), len(self._files)) <= 1

    def __iter__(self) -> Iterator[Given]:
        """Yield the contents in their order; a body that was cut out belongs to whoever takes it."""
        if self._parts:
            for part in self._parts:
                names = {"filename": part.file_name} if part.file_name else {}
                attributes = {**self._attributes, **self._fields, "form.name": part.name, **names}
                attributes.pop("mime.type", None)
                yield Given(self._topic, self._body.cut(part.start, part.stop), attributes, part.content_type, self._name(part.name))
        elif self._files:
            for number, one in enumerate(self._files):
                attributes = {name.lower(): value for name, value in one.attributes.items()}
                own = attributes.get("uuid")
                name = checked_id(own) if own else self._name(str(number))
                yield Given(self._topic, self._body.cut(one.start, one.stop), attributes, "", name)
        else:
            yield Given(self._topic, self._body, self._attributes, self._type, self._id)

    def _name(self, part: str) -> str | None:
        if self._id is None or self.single:
            return self._id
        return checked_id(f"{self._id}/{part}")

    def _read_form(self, content_type: bytes) -> None:
        """Find the parts that are contents; the others, which are neither files nor say what they are, are attributes."""
        with contextlib.ExitStack() as stack:
            data: bytes | mmap.mmap
            if self._body.data is not None:
                data = self._body.data
            else:
                file = stack.enter_context(self._body.open())
                data = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            for part in find_parts(data, content_type):
                if part.file_name is not None or part.content_type:
                    self._parts.append(part)
                else:
                    self._fields[part.name.lower()] = data[part.start : part.stop][:10_000].decode(errors="replace")
        if not self._parts:
            raise RefusedError(422, "the form holds no content", hint="send each content as a part with a filename or a Content-Type")
