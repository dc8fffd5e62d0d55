from __future__ import annotations

import datetime as dt
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from tests.sounds import wav
from tests.tiny_checkpoint import write_tokenizer

from deepseek.data.transforms.audio import AudioTransform
from deepseek.data.transforms.category import CategoryTransform
from deepseek.data.transforms.contract import TransformContract
from deepseek.data.transforms.image import ImageTransform
from deepseek.data.transforms.number import NumberTransform
from deepseek.data.transforms.series import SeriesTransform
from deepseek.data.transforms.text import TextTransform
from deepseek.data.transforms.text_pretrained import PretrainedTextTransform
from deepseek.data.transforms.timestamp import TimestampTransform
from deepseek.data.transforms.tokens import TokensTransform
from deepseek.data.transforms.volume import VolumeTransform
from deepseek.data.transforms.words import WordsTransform
from deepseek.fields import Field, Kind


class TestStandardNumbers(TransformContract):
    scaling = "standard"

    def build(self):
        return NumberTransform((Field("age", Kind.NUMBER), Field("flat", Kind.NUMBER), Field("far", Kind.NUMBER)), scaling=self.scaling)

    def training(self):
        return pa.record_batch({"age": [1.0, None, 3.0, 8.0, float("nan")], "flat": [2] * 5, "far": [1e9, 1e9 + 1, 1e9 + 2, None, 1e9 - 1]})

    def unseen(self):
        return pa.record_batch({"age": [float("inf"), -1e6, None], "flat": [None, 5, 7], "far": [0.0, 1e9, 1e30]})


class TestQuantileNumbers(TestStandardNumbers):
    scaling = "quantile"


class TestRobustNumbers(TestStandardNumbers):
    scaling = "robust"


class TestMinMaxNumbers(TestStandardNumbers):
    scaling = "min_max"


class TestPlainNumbers(TestStandardNumbers):
    scaling = "none"


class TestOrdinalCategories(TransformContract):
    encoding = "ordinal"

    def build(self):
        return CategoryTransform((Field("town", Kind.CATEGORY), Field("flag", Kind.BINARY)), encoding=self.encoding)

    def training(self):
        return pa.record_batch({"town": ["Ulm", "Bonn", None, "Ulm", "Köln"], "flag": [True, False, None, True, True]})

    def unseen(self):
        return pa.record_batch({"town": ["Oslo", None, "Bonn"], "flag": pa.array([None, True, False], pa.bool_())})


class TestOneHotCategories(TestOrdinalCategories):
    encoding = "one_hot"


class TestTargetCategories(TestOrdinalCategories):
    encoding = "target"


class TestTimestamps(TransformContract):
    def build(self):
        return TimestampTransform((Field("at", Kind.TIMESTAMP), Field("day", Kind.TIMESTAMP)))

    def training(self):
        moments = ["2024-02-29T23:59:59.5", "2023-01-01", None, "2025-12-31 12:00", "01.02.2024 03:04"]
        days = [dt.date(2020, 1, day) for day in (1, 2, 3, 4, 5)]
        return pa.record_batch({"at": moments, "day": days})

    def unseen(self):
        return pa.record_batch({"at": ["1901-01-01", "", "2100-06-01T00:00:00Z"], "day": [None, *[dt.date(2030, 1, 1)] * 2]})


class TestImages(TransformContract):
    def build(self):
        return ImageTransform((Field("photo", Kind.IMAGE),))

    def _batch(self, rows, seed):
        pixels = np.random.default_rng(seed).integers(0, 256, (rows, 5, 4, 3), dtype=np.uint8)
        return pa.record_batch({"photo": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)})

    def training(self):
        return self._batch(6, 0)

    def unseen(self):
        return self._batch(3, 1)


class TestSounds(TransformContract):
    def build(self):
        return AudioTransform((Field("call", Kind.AUDIO),), seconds=0.3)

    def training(self):
        tone = np.sin(np.arange(4000) / 5)
        return pa.record_batch({"call": [wav(tone[:2000]), None, wav(tone[:900]), wav(tone), wav(tone[:1])]})

    def unseen(self):
        noise = np.random.default_rng(0).uniform(-1, 1, 3000)
        return pa.record_batch({"call": [wav(noise, rate=16_000), None, wav(np.zeros(500)), wav(noise, bits=24, channels=2)]})


class TestSeries(TransformContract):
    exact_batches = False

    def build(self):
        return SeriesTransform((Field("pulse", Kind.SERIES),), steps=5)

    def training(self):
        return pa.record_batch({"pulse": [[[1.0, 2.0]] * 7, None, [[3.0, None], [4.0, 9.0]], [[5.0, 6.0]], []]})

    def unseen(self):
        return pa.record_batch({"pulse": [[[1e30, -1e300]], None, [[None, None]], [[0.0, 0.0]] * 9]})


@pytest.mark.parametrize("scaling", ["standard", "quantile", "robust", "min_max", "none"])
def test_every_scaling_is_in_the_suite(scaling):
    assert scaling in {cls.scaling for cls in (TestStandardNumbers, *TestStandardNumbers.__subclasses__())}


class TestImagesCutToSize(TestImages):
    def build(self):
        return ImageTransform((Field("photo", Kind.IMAGE),), size=(5, 4), fit="pad")


class TestVolumes(TransformContract):
    settings: ClassVar = {}

    def build(self):
        return VolumeTransform((Field("scan", Kind.VOLUME),), **self.settings)

    def training(self):
        return scans(np.random.default_rng(0).normal(size=(6, 4, 5, 3)).astype(np.float32))

    def unseen(self):
        return scans(1e3 * np.random.default_rng(1).normal(size=(3, 5, 2, 7)).astype(np.float32))


class TestVolumesByTraining(TestVolumes):
    settings: ClassVar = {"normalize": "training", "size": (3, 6, 4)}


class TestVolumesAsTheyAre(TestVolumes):
    settings: ClassVar = {"normalize": "none", "size": 4, "clip": None}


def scans(values):
    return pa.record_batch({"scan": pa.FixedShapeTensorArray.from_numpy_ndarray(values)})


class TestWords(TransformContract):
    tokenizer = "word"
    vocabulary = 300

    def build(self):
        note = Field("note", Kind.TEXT)
        return TextTransform((note,), tokenizer=self.tokenizer, vocabulary=self.vocabulary, max_tokens=6, keep="both", min_count=1)

    def training(self):
        return pa.record_batch({"note": ["a good day", None, "", "good good 日本語のテスト and a long, long end of it", "मौसम अच्छा है"]})

    def unseen(self):
        return pa.record_batch({"note": ["\u200d👍🏽 [ unknown ] <pad>", None, "", "ﬁne \n\t día", "مرحبا بالعالم", "x" * 1000]})


class TestPieces(TestWords):
    tokenizer = "bpe"


class TestCharacters(TestWords):
    tokenizer = "characters"


class TestPiecesByTheAmountOfText(TestPieces):
    vocabulary = "auto"


class TestTokenizersOfCheckpoints(TestWords):
    @pytest.fixture(autouse=True)
    def _checkpoint(self, tmp_path):
        self.folder = tmp_path
        write_tokenizer(tmp_path)
        (tmp_path / "config.json").write_text('{"model_type": "bert", "vocab_size": 40, "max_position_embeddings": 16}')

    def build(self):
        return PretrainedTextTransform((Field("note", Kind.TEXT),), pretrained=str(self.folder), max_tokens=6)


class TestTokens(TestWords):
    tokenizer = "characters"
    documents = True

    def build(self):
        note = Field("note", Kind.TEXT)
        return TokensTransform((note,), tokenizer=self.tokenizer, vocabulary=self.vocabulary, documents=self.documents)


class TestTokensOfOneText(TestTokens):
    tokenizer = "bpe"
    documents = False


class TestWordsOfTexts(TestWords):
    tokenizer = "bpe"

    def build(self):
        return WordsTransform((Field("note", Kind.TEXT),), tokenizer=self.tokenizer, vocabulary=self.vocabulary, max_tokens=6, min_count=1)


class TestWordsOfLists(TestWordsOfTexts):
    tokenizer = "word"

    def training(self):
        return pa.record_batch({"note": [["a", "good", "day"], None, [], ["good", "good", "日本語", "and", "a", "long", "end"], ["it's"]]})

    def unseen(self):
        return pa.record_batch({"note": [["\u200d👍🏽", "[ unknown ]", ""], None, ["ﬁne"]]})


class TestWordsOfCheckpoints(TestTokenizersOfCheckpoints):
    def build(self):
        return WordsTransform((Field("note", Kind.TEXT),), pretrained=str(self.folder), max_tokens=6)
