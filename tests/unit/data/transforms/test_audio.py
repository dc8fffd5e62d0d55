from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.signal import resample_poly
from tests.sounds import wav

from deepseek.data.sources.base import ROOT_KEY
from deepseek.data.transforms import group_fields, sound_files
from deepseek.data.transforms.audio import AudioTransform
from deepseek.data.transforms.log_mel import LEAST_POWER, Bands, LogMel, hz_to_mel, mel_filters, mel_to_hz
from deepseek.data.transforms.sound_files import SoundError, decode, resample
from deepseek.errors import ColumnError, DataError, InputError, MissingExtraError
from deepseek.fields import Field, Kind, Schema

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)


SMALL = Bands(8_000, n_fft=256, mels=20)


def fitted(rows, **settings):
    transform = AudioTransform((Field("call", Kind.AUDIO),), **settings)
    transform.observe(pa.record_batch({"call": rows}))
    transform.finish()
    return transform


def rows_of(transform, rows):
    made = transform.apply(pa.record_batch({"call": rows}))["call"]
    return [made.values[start:stop] for start, stop in zip(made.offsets[:-1], made.offsets[1:], strict=True)]


@pytest.mark.parametrize(
    ("form", "within"),
    [
        ({"bits": 8}, 1 / 127),
        ({"bits": 16}, 1 / 32_767),
        ({"bits": 24}, 1e-6),
        ({"bits": 32}, 1e-6),
        ({"bits": 32, "code": 3}, 1e-7),
        ({"bits": 64, "code": 3}, 1e-7),
        ({"bits": 16, "channels": 2}, 1 / 32_767),
        ({"bits": 24, "channels": 3, "extensible": True}, 1e-6),
        ({"bits": 16, "announced": 0xFFFFFFFF}, 1 / 32_767),
    ],
)
def test_every_form_of_wav_holds_the_same_sound(form, within):
    samples, rate = decode(wav(TONE, rate=11_025, **form))
    assert rate == 11_025
    assert samples.dtype == np.float32
    assert samples.shape == TONE.shape
    np.testing.assert_allclose(samples, TONE, atol=within)


def test_channels_are_averaged():
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1).ravel()
    body = np.rint(stereo * 32_767).astype("<i2").tobytes()
    file = wav(TONE, channels=2)
    np.testing.assert_allclose(decode(file[: -len(body)] + body)[0], TONE / 2, atol=1e-4)


@pytest.mark.parametrize("name", ["FLAC", "OGG", "MP3"])
def test_other_formats_are_read_by_the_library(tmp_path, name):
    soundfile = pytest.importorskip("soundfile")
    file = tmp_path / f"a.{name.lower()}"
    soundfile.write(file, TONE, 8000, format=name)
    samples, rate = decode(file.read_bytes())
    assert rate == 8000
    np.testing.assert_allclose(samples[500:3500], TONE[500:3500], atol=0.08)


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(MissingExtraError, match="audio"):
        decode(b"fLaC\0\0\0\x22")
    with pytest.raises(SoundError, match="no WAV"):
        decode(b"hello, this is text")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (wav(TONE)[:500], "cut off"),
        (wav(TONE)[:30], "cut off|no chunk"),
        (wav([]), "no samples"),
        (wav(TONE, bits=16, code=6), "of 16 bits in the form 6"),
        (wav([0.0, np.nan], bits=32, code=3), "infinite or not a number"),
        (wav(TONE, channels=1, rate=0), "0 samples a second"),
        (wav(TONE, rate=768_001), "768,001 samples a second; up to 768,000 are read"),
        (b"", "empty"),
    ],
)
def test_damaged_files_are_told_by_what_is_wrong(file, message):
    with pytest.raises(SoundError, match=message):
        decode(file)


def test_what_is_no_sound_is_said_without_a_place_in_memory():
    pytest.importorskip("soundfile")
    with pytest.raises(SoundError) as caught:
        decode(b"this is no sound")
    assert "0x" not in str(caught.value)
    assert "ormat" in str(caught.value)


@pytest.mark.parametrize(("rate", "wanted"), [(44_100, 16_000), (8_000, 16_000), (16_000, 8_000), (22_050, 8_000), (11_025, 16_000)])
@pytest.mark.parametrize("length", [1, 37, 5_000])
def test_resampling_is_scipys(rate, wanted, length):
    x = np.random.default_rng(0).normal(size=length).astype(np.float32)
    common = np.gcd(rate, wanted)
    np.testing.assert_allclose(resample(x, rate, wanted), resample_poly(x, wanted // common, rate // common), atol=3e-6)


def test_resampling_goes_piece_by_piece(monkeypatch):
    x = np.random.default_rng(0).normal(size=3_000).astype(np.float32)
    whole = resample(x, 8_000, 11_025)
    monkeypatch.setattr(sound_files, "_OUTPUTS_AT_ONCE", 100)
    np.testing.assert_array_equal(resample(x, 8_000, 11_025), whole)


def test_what_the_lower_rate_cannot_hold_is_taken_out():
    time = np.arange(16_000) / 16_000
    high, low = (np.sin(2 * np.pi * pitch * time).astype(np.float32) for pitch in (6_000, 1_000))
    assert np.abs(resample(high, 16_000, 8_000)[100:-100]).max() < 0.01
    assert np.abs(resample(low, 16_000, 8_000)[100:-100]).max() > 0.99


def reference(x, *, rate, n_fft, hop, mels, scale, f_min=0.0, f_max=None):
    """The natural logarithm of mel powers `[t, f]`, by NumPy's Fourier transform and triangles drawn point by point."""
    top = rate / 2 if f_max is None else f_max
    padded = np.concatenate([np.zeros(n_fft // 2), x, np.zeros(n_fft)])
    window = np.hanning(n_fft + 1)[:-1]
    frames = np.stack([padded[start : start + n_fft] * window for start in range(0, len(x), hop)])
    power = np.abs(np.fft.rfft(frames)) ** 2

    def mel(hz):
        if scale == "htk":
            return 1127.01048 * np.log(1 + hz / 700)
        return 3 * hz / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)

    grid = np.arange(n_fft // 2 + 1) * rate / n_fft
    fine = np.linspace(0, rate / 2, 400_001)
    places = np.array([mel(hz) for hz in fine])
    edges = np.interp(np.linspace(mel(f_min), mel(top), mels + 2), places, fine)
    bands = np.stack([np.interp(grid, edges[index : index + 3], [0, 1, 0]) for index in range(mels)])
    bands *= (2 / (edges[2:] - edges[:-2]))[:, None] if scale == "slaney" else 1
    return np.log(np.maximum(power @ bands.T, LEAST_POWER))


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize(
    "size", [{"n_fft": 256, "hop": 80, "mels": 20}, {"n_fft": 401, "hop": 133, "mels": 32, "f_min": 60.0, "f_max": 3_600.0}]
)
def test_spectrograms_are_those_of_the_definition(scale, size):
    x = (TONE + np.random.default_rng(0).normal(0, 0.01, len(TONE))).astype(np.float32)
    hop = size["hop"]
    bands = Bands(8_000, scale=scale, **{name: value for name, value in size.items() if name != "hop"})
    module = LogMel(bands, hop=hop, range_db=None, normalization="none")
    made, mask = module(torch.from_numpy(x)[None], torch.ones(1, len(x), dtype=torch.bool))
    wanted = reference(x.astype(np.float64), rate=8_000, scale=scale, **size)
    assert mask.sum() == len(wanted) == made.shape[1] - 1
    np.testing.assert_allclose(made[0, :-1].numpy(), wanted, atol=1e-4)


def test_the_scales_have_their_published_points():
    np.testing.assert_allclose(hz_to_mel(np.array([0.0, 1000.0, 6400.0]), "slaney"), [0, 15, 42], atol=1e-9)
    np.testing.assert_allclose(hz_to_mel(np.array([0.0, 1000.0, 4000.0]), "htk"), [0, 999.9855, 2146.0645], atol=1e-3)
    for scale in ("slaney", "htk"):
        hz = np.linspace(0, 8000, 50)
        np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz, scale), scale), hz, atol=1e-8)
    np.testing.assert_allclose(mel_filters(Bands(16_000, n_fft=512, mels=40, scale="htk")).max(axis=1), 1.0, atol=0.35)


def test_a_recording_is_normalised_over_what_is_heard():
    x = torch.from_numpy(TONE.astype(np.float32))[None] * torch.tensor([[1.0], [0.01]])
    mask = torch.ones(2, 4000, dtype=torch.bool)
    mask[:, 2500:] = False
    made, heard = LogMel(SMALL, hop=80)(x, mask)
    torch.testing.assert_close(made[heard].view(2, -1).mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(made[heard].view(2, -1).std(1, correction=0), torch.ones(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(made[0], made[1], atol=1e-3, rtol=0)  # how loud it was is taken out
    assert not made[~heard].any()
    loud, _ = LogMel(SMALL, hop=80, normalization="none")(x, mask)
    assert (loud[0] - loud[1])[heard[0]].mean() > 9


def test_the_range_is_bounded_from_below():
    x = torch.zeros(1, 4000)
    x[:, :1000] = torch.from_numpy(TONE[:1000].astype(np.float32))
    mask = torch.ones(1, 4000, dtype=torch.bool)
    made, heard = LogMel(SMALL, hop=80, normalization="none", range_db=40.0)(x, mask)
    assert made[heard].max() - made[heard].min() == pytest.approx(4 * np.log(10), abs=1e-4)


def test_whole_numbers_and_floats_are_the_same_sound():
    whole = torch.from_numpy(np.rint(TONE * 32_768).astype(np.int16))[None]
    mask, module = torch.ones(1, 4000, dtype=torch.bool), LogMel(SMALL, hop=80)
    assert torch.equal(module(whole, mask)[0], module(whole.float() / 32_768, mask)[0])


def test_bands_too_narrow_for_the_frames_are_refused():
    with pytest.raises(InputError, match="of 200 mel bands are narrower than the 31 Hz"):
        LogMel(Bands(8_000, n_fft=256, mels=200), hop=80)
    with pytest.raises(InputError, match="5000 Hz, at 8,000 samples"):
        mel_filters(Bands(8_000, n_fft=256, mels=10, f_max=5_000.0))
    with pytest.raises(InputError, match="mel bands"):
        fitted([wav(TONE)], mels=200)


def test_all_sounds_come_at_the_most_frequent_rate():
    transform = fitted([wav(TONE, rate=44_100), wav(TONE, rate=11_025), wav(TONE, rate=11_025), None])
    assert transform.fitted_rate == 11_025
    lengths = [len(row) for row in rows_of(transform, [wav(TONE, rate=11_025), wav(TONE, rate=22_050), None])]
    assert lengths == [4000, 2000, 1]
    assert fitted([wav(TONE, rate=48_000)]).fitted_rate == 16_000
    assert fitted([wav(TONE, rate=48_000)], rate=24_000).fitted_rate == 24_000


def test_sixteen_bits_are_kept_to_the_bit():
    samples = np.random.default_rng(0).integers(-32_767, 32_768, 500)
    made = rows_of(fitted([wav(TONE)]), [wav(samples / 32_767)])[0]
    assert np.abs(made.astype(int) - samples).max() <= 1
    file = bytearray(wav(TONE))
    file[-8:] = np.array([-32_767, 32_767, 1, -1], "<i2").tobytes()
    assert rows_of(fitted([wav(TONE)]), [bytes(file)])[0][-4:].tolist() == [-32_767, 32_767, 1, -1]


def test_longer_sounds_are_cut_where_said_and_counted():
    ramp = np.arange(8000) / 8000
    parts = {keep: rows_of(fitted([wav(ramp)], seconds=0.25, keep=keep), [wav(ramp)])[0] for keep in ("start", "middle", "end")}
    assert {keep: len(part) for keep, part in parts.items()} == dict.fromkeys(parts, 2000)
    assert [round(float(part[0]) / 32_767, 2) for part in parts.values()] == [0.0, 0.38, 0.75]
    assert "50.0% of the training sounds of 'call' are longer than 0.25 s" in fitted([wav(ramp), wav(ramp[:100])], seconds=0.25).warnings[0]
    assert not fitted([wav(ramp)]).warnings


def test_unreadable_rows_are_named_and_set_aside(tmp_path):
    (tmp_path / "good.wav").write_bytes(wav(TONE))
    (tmp_path / "bad.wav").write_bytes(wav(TONE)[:300])
    column = pa.field("call", pa.string(), metadata={ROOT_KEY: str(tmp_path).encode()})
    batch = pa.record_batch([pa.array(["good.wav", "bad.wav", None, "gone.wav"])], schema=pa.schema([column]))
    for missing, bad in (("silence", [False, True, False, True]), ("fail", [False, True, True, True])):
        transform = AudioTransform((Field("call", Kind.AUDIO),), missing=missing)
        transform.observe(batch)
        transform.finish()
        assert transform.bad(batch).tolist() == bad
    with pytest.raises(DataError, match=r"row 1 of the batch: the sound .*bad\.wav in column 'call' cannot be read: it is cut off"):
        transform.apply(batch)
    with pytest.raises(DataError, match="no readable sound"):
        fitted([None, b"nothing"])
    with pytest.raises(ColumnError, match="is no sound"):
        fitted([1.5])


def test_a_sound_that_is_all_there_is_must_be_there():
    alone = group_fields(Schema((Field("call", Kind.AUDIO),)))
    beside = group_fields(Schema((Field("call", Kind.AUDIO), Field("age", Kind.NUMBER))))
    assert alone.parts[0][0]["missing"] == "fail"
    assert beside.parts[0][0]["missing"] == "silence"


@pytest.mark.parametrize("normalization", ["recording", "none"])
def test_silence_is_told_from_sound_before_and_behind_the_front_end(normalization):
    x = torch.zeros(2, 900, dtype=torch.int16)
    x[1, 400:500] = 7
    mask = torch.ones(2, 900, dtype=torch.bool)
    module = LogMel(SMALL, hop=80, normalization=normalization)
    assert module.present(x, mask).tolist() == [False, True]
    assert module.present(*module(x, mask)).tolist() == [False, True]
    mask[1, 300:] = False
    assert module.present(x, mask).tolist() == [False, False]
