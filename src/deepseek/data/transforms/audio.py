"""Sound: decoded and brought to one rate on the host, turned into spectrograms inside the model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt

from deepseek.data.columns import get_column, plain
from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.transforms.base import Array, InputSpec, Ragged, Transform
from deepseek.data.transforms.sound_files import SoundError, decode, resample
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field, Kind

if TYPE_CHECKING:
    from deepseek.data.transforms.log_mel import LogMel, MelScale

HIGHEST_AUTO_RATE = 16_000
"""Speech and most sounds that are told apart lie below 8 kHz."""
FRAME_S, HOP_S = 0.025, 0.010
FEW_MELS, MANY_MELS = 40, 64
CHUNK = 256
THREADS = min(8, os.cpu_count() or 1)
_LARGEST = 32_767.0

Sound = tuple[np.ndarray, int]


class AudioTransform(Transform):
    """Turns a column of sounds into one ragged int16 input: each row's samples, one channel, all at one rate.

    The column holds sound files as bytes, or paths, relative to the folder that the Arrow field's metadata names under `deepseek.root`. WAV
    files of 8, 16, 24 and 32 bits and floats are read by the framework itself, FLAC, Ogg and MP3 through the optional library `soundfile`.
    Log-mel spectrograms are made of the samples inside the model, and so are exported with it: see `LogMel`.

    Args:
        fields: The one column.
        name: The name of the input; the column's where not given.
        rate: Samples a second; where not given, the most frequent rate among the training sounds, at most 16,000.
        seconds: How much of a longer sound is kept.
        keep: Which part that is: its `start`, `middle` or `end`.
        n_fft: Samples a frame; where not given, the power of two that holds 25 ms.
        hop: Samples from a frame to the next; where not given, 10 ms.
        mels: Bands; where not given, 40 up to 8,000 samples a second and 64 above.
        f_min: The lowest frequency, in Hz.
        f_max: The highest, in Hz; half the rate where not given.
        scale: The mel scale: `slaney` or `htk`.
        range_db: How far below its loudest moment a recording is heard, in decibels; nothing for all there is.
        normalization: `recording` (each to mean 0 and deviation 1, which takes its loudness out) or `none`.
        missing: What a row without a sound gets: `silence`, which a network of several senses passes over, or `fail`: such rows are set
            aside in training and refused in production. Not given, it is `silence` where there are other inputs, and `fail` where the
            sound is all there is. A sound that is named and cannot be read is always a bad one.

    Raises:
        InputError: There is more than one column.
    """

    ragged = True

    def __init__(  # noqa: PLR0913  its arguments are its keys in a recipe
        self,
        fields: Sequence[Field],
        name: str | None = None,
        /,
        *,
        rate: Annotated[int, Ge(1000)] | Literal["auto"] = "auto",
        seconds: Annotated[float, Gt(0)] = 30.0,
        keep: Literal["start", "middle", "end"] = "start",
        n_fft: Annotated[int, Ge(2)] | Literal["auto"] = "auto",
        hop: Annotated[int, Ge(1)] | Literal["auto"] = "auto",
        mels: Annotated[int, Ge(1)] | Literal["auto"] = "auto",
        f_min: Annotated[float, Ge(0)] = 0.0,
        f_max: Annotated[float, Gt(0)] | None = None,
        scale: Literal["slaney", "htk"] = "slaney",
        range_db: Annotated[float, Gt(0)] | None = 80.0,
        normalization: Literal["recording", "none"] = "recording",
        missing: Literal["silence", "fail"] = "silence",
    ) -> None:
        if len(fields) != 1:
            raise InputError(f"an audio transform is given {len(fields)} columns", hint="each column of sounds has a transform of its own")
        super().__init__(fields, name or fields[0].name)
        self.rate, self.seconds, self.keep, self.missing = rate, seconds, keep, missing
        self.n_fft, self.hop, self.mels = n_fft, hop, mels
        self.f_min, self.f_max, self.range_db = f_min, f_max, range_db
        self.scale: MelScale = scale
        self.normalization: Literal["recording", "none"] = normalization
        self._column = self.fields[0].name
        self._rates: Counter[int] = Counter()
        self._rows = self._absent = self._cut = 0
        self._state: dict[str, int] = {}

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at the rates and lengths of training sounds; those that cannot be read are passed over here and named by `bad`."""
        self._rows += batch.num_rows
        for sound in self._read(batch):
            self._absent += sound is None
            if isinstance(sound, tuple):
                samples, rate = sound
                self._rates[rate] += 1
                self._cut += len(samples) > self.seconds * rate

    def finish(self) -> None:
        """Settle the rate."""
        if not self._rates:
            raise DataError(f"no readable sound was seen in the training rows of {self._column!r}", hint="are the paths right?")
        common = max(self._rates, key=lambda rate: (self._rates[rate], rate))
        self._state = {"rate": min(common, HIGHEST_AUTO_RATE) if self.rate == "auto" else self.rate}
        self.module()  # bands that the frames cannot tell apart are said now, not when the network is built
        self.warnings = tuple(self._warnings(sum(self._rates.values())))
        self._rates, self._rows, self._absent, self._cut = Counter(), 0, 0, 0

    def _warnings(self, sounds: int) -> Iterator[str]:
        if self._cut:
            share = f"{max(self._cut / sounds, 0.001):.1%}"
            yield (
                f"{share} of the training sounds of {self._column!r} are longer than {self.seconds:g} s and are cut (keep: {self.keep}); "
                "raise seconds of the transform audio to hear more"
            )
        if self._absent and self.missing == "silence":
            yield f"{self._absent / self._rows:.1%} of the training rows have no sound in {self._column!r}"

    @property
    def fitted_rate(self) -> int:
        """Samples a second, as settled on the training rows."""
        if not self._state:
            raise InputError("the transform of sounds is not fitted", hint="call observe and finish, or load_json, first")
        return self._state["rate"]

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The one input, ragged."""
        self.fitted_rate  # noqa: B018  raises where nothing is fitted
        return (InputSpec(str(self.name), Kind.AUDIO, (self._column,), (), "int16", ragged=True),)

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the samples, int16, each row from one sample to `seconds` long; a missing sound is one sample of silence."""
        rate = self.fitted_rate
        rows = [self._row(sound, number, rate) for number, sound in enumerate(self._read(batch, rate))]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row) for row in rows], dtype=np.int64)])
        return {str(self.name): Ragged(np.concatenate(rows) if rows else np.empty(0, np.int16), offsets)}

    def _row(self, sound: Sound | str | None, number: int, rate: int) -> np.ndarray:
        if sound is None and self.missing == "silence":
            return np.zeros(1, np.int16)
        if not isinstance(sound, tuple):
            raise RowError(
                number,
                f": {sound or f'the sound in column {self._column!r} is missing'}",
                hint="replace or remove the file; preparing data sets such rows aside",
            )
        kept = sound[0][: max(1, round(self.seconds * rate))]
        scaled: np.ndarray = np.rint(kept * (_LARGEST + 1)).clip(-_LARGEST, _LARGEST).astype(np.int16)
        return scaled

    def bad(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return true for rows whose sound cannot be decoded, or is missing where it must not be."""
        found = [self.missing == "fail" if sound is None else isinstance(sound, str) for sound in self._read(batch)]
        return np.array(found, dtype=bool)

    def module(self) -> LogMel:
        """Return the front end: samples `[b, l]` and their mask to log-mel spectrograms `[b, t, f]` and theirs."""
        from deepseek.data.transforms.log_mel import Bands, LogMel

        rate = self.fitted_rate
        held = max(2, round(FRAME_S * rate))
        bands = Bands(
            rate,
            n_fft=1 << (held - 1).bit_length() if self.n_fft == "auto" else self.n_fft,
            mels=(FEW_MELS if rate <= 8_000 else MANY_MELS) if self.mels == "auto" else self.mels,
            f_min=self.f_min,
            f_max=self.f_max,
            scale=self.scale,
        )
        hop = max(1, round(HOP_S * rate)) if self.hop == "auto" else self.hop
        return LogMel(bands, hop=hop, range_db=self.range_db, normalization=self.normalization)

    def to_json(self) -> dict[str, Any]:
        """Return the rate."""
        return {"rate": self.fitted_rate}

    def load_json(self, state: Mapping[str, Any]) -> Self:
        """Take up what `to_json` returned."""
        self._state = {"rate": int(state["rate"])}
        return self

    def _read(self, batch: pa.RecordBatch, rate: int | None = None) -> Iterator[Sound | str | None]:
        """Yield each row's samples and their rate, why they cannot be read, or nothing where there is none; brought to a rate if given."""
        column = plain(get_column(batch, self._column))
        root = Path(((batch.schema.field(self._column).metadata or {}).get(ROOT_KEY, b"")).decode())

        def read(item: str | bytes | None) -> Sound | str | None:
            if item is None:
                return None
            sound = _decoded(item, root, self._column)
            return sound if isinstance(sound, str) or rate is None else (resample(self._kept(*sound), sound[1], rate), rate)

        # few sounds at a time: a batch of thousands of recordings would not fit into memory as floats
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, batch.num_rows, CHUNK):
                yield from pool.map(read, column.slice(start, CHUNK).to_pylist())

    def _kept(self, samples: np.ndarray, rate: int) -> np.ndarray:
        most = max(1, round(self.seconds * rate))
        spare = max(0, len(samples) - most)
        start = {"start": 0, "middle": spare // 2, "end": spare}[self.keep]
        return samples[start : start + most]


def _decoded(item: str | bytes, root: Path, column: str) -> Sound | str:
    if not isinstance(item, bytes | str):
        raise ColumnError(f"the column {column!r} holds {item!r}, which is no sound", hint="sounds are files, paths or bytes")
    where = f"of {len(item)} bytes" if isinstance(item, bytes) else str(root / item)
    try:
        return decode(item if isinstance(item, bytes) else (root / item).read_bytes())
    except (OSError, SoundError) as error:
        return f"the sound {where} in column {column!r} cannot be read: {error}"
