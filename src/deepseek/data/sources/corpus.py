"""Texts as they run on: files cut into pieces at line ends, in order, with nothing left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
from annotated_types import Ge

from deepseek.data.sources.files import FileSource, PathLike
from deepseek.data.sources.text import check_encoding, utf8_blocks

TEXT, PLACE, DOCUMENT = "text", "place", "document"
_BATCH_PIECES = 1024


class CorpusSource(FileSource):
    r"""Read text files as one long text, for language models: a row is a piece of it.

    The pieces of a file, one after the other, are the file again, character by character. The columns are `text`, `place` (the piece's
    number over all files, so that a split by `time: place` takes the end of the text for validation and test) and `document` (the file's
    name). Pieces end at a line's end, or where `piece` is reached twice over without one.

    Args:
        folder: What relative paths are relative to.
        path: A path, a pattern with `*`, a URL, or a list of them; `.gz`, `.zip`, `.bz2`, `.xz` and `.zst` are unpacked.
        encoding: How the files are encoded.
        piece: About how many characters a row has, at least 1.

    Raises:
        DataError: A file is no text, or in another encoding.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("To be,\nor not\n")
        >>> next(CorpusSource(folder, path="a.txt", piece=5).read())["text"].to_pylist()
        ['To be,\n', 'or not\n']
    """

    def __init__(self, folder: Path = Path(), /, *, path: PathLike, encoding: str = "utf-8", piece: Annotated[int, Ge(1)] = 1024) -> None:
        super().__init__(folder, path=path)
        self.encoding, self.piece = check_encoding(encoding), piece

    def schema(self) -> pa.Schema:
        """Return the three columns; a file that is not there is told of now."""
        self.files()
        return pa.schema([(TEXT, pa.string()), (PLACE, pa.int64()), (DOCUMENT, pa.string())])

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        schema, place = self.schema(), 0
        for file in self.files():
            held: list[str] = []
            for piece in self._pieces(file):
                held.append(piece)
                if len(held) == _BATCH_PIECES:
                    yield _batch(held, place, file.name, schema)
                    place, held = place + len(held), []
            if held:
                yield _batch(held, place, file.name, schema)
                place += len(held)

    def _pieces(self, file: Path) -> Iterator[str]:
        rest = ""
        for block in utf8_blocks(file, encoding=self.encoding):
            rest += block.decode()
            start = 0
            while len(rest) - start > 2 * self.piece:
                end = rest.find("\n", start + self.piece - 1, start + 2 * self.piece) + 1 or start + 2 * self.piece
                yield rest[start:end]
                start = end
            rest = rest[start:]
        start = 0
        while start < len(rest):
            end = rest.find("\n", start + self.piece - 1, start + 2 * self.piece) + 1 or min(start + 2 * self.piece, len(rest))
            yield rest[start:end]
            start = end


def _batch(pieces: list[str], place: int, name: str, schema: pa.Schema) -> pa.RecordBatch:
    numbers = pa.array(range(place, place + len(pieces)), pa.int64())
    return pa.record_batch([pa.array(pieces, pa.string()), numbers, pa.array([name] * len(pieces), pa.string())], schema=schema)
