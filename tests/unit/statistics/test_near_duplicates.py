"""Minima of hashes overlap as sets do; bands find what is near in time that grows with the number of things."""

from itertools import pairwise

import numpy as np
import pytest

from deepseek.statistics.near_duplicates import BANDS, PIECE, ROWS, Bands, minima, overlap, picture_bits, pieces


def sets_of(texts):
    hashed, offsets = pieces(texts)
    return [set(hashed[start:stop].tolist()) for start, stop in pairwise(offsets.tolist())]


def test_pieces_are_every_run_of_five_characters():
    texts = ["the cat sat", "", "ab", "häßlich 🙂 text", "the cat sat"]
    found = sets_of(texts)
    wanted = [{text[n : n + PIECE] for n in range(len(text) - PIECE + 1)} or ({text} if text else set()) for text in texts]
    assert [len(one) for one in found] == [len(one) for one in wanted]
    assert found[0] == found[4]
    for first in range(3):
        for second in range(first + 1, 4):
            assert len(found[first] & found[second]) == len(wanted[first] & wanted[second])


def test_bands_agree_as_often_as_the_overlap_says():
    random = np.random.default_rng(0)
    for share in (0.3, 0.6, 0.9):
        agreed = 0
        for trial in range(200):
            members = random.integers(0, 2**63, 400, dtype=np.uint64)
            shared = round(400 * 2 * share / (1 + share) / 2) * 1
            first = members[:200]
            second = np.concatenate([members[: min(shared, 200)], members[200 : 400 - min(shared, 200)]])
            both = np.concatenate([first, second])
            bands = minima(both, np.array([0, 200, 400]), seed=trial)
            agreed += int((bands[0] == bands[1]).any())
        true = overlap(np.unique(first), np.unique(second))
        wanted = 1 - (1 - true**ROWS) ** BANDS
        assert agreed / 200 == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / 200) + 0.01)


def test_empty_sets_agree_with_nothing():
    hashed, offsets = pieces(["", "", "some text that is long enough"])
    bands = minima(hashed, offsets)
    assert not (bands[0] == bands[1]).any()


def test_overlap_is_jaccards():
    assert overlap(np.array([1, 2, 3]), np.array([2, 3, 4, 5])) == pytest.approx(2 / 5)
    assert overlap(np.array([]), np.array([])) == 0


def test_pairs_are_all_that_share_a_band_and_each_once():
    random = np.random.default_rng(1)
    held, asked = random.integers(0, 6, (30, 3)).astype(np.uint64), random.integers(0, 6, (20, 3)).astype(np.uint64)
    wanted = {(m, n) for m in range(30) for n in range(20) if (held[m] == asked[n]).any()}
    pairs = Bands(held).pairs(asked)
    assert {tuple(pair) for pair in pairs.tolist()} == wanted
    assert len(pairs) == len(wanted)
    assert Bands(held[:0]).pairs(asked).shape == (0, 2)


def test_bits_say_where_a_picture_gets_brighter():
    ramp = np.tile(np.arange(36, dtype=np.uint8) * 7, (36, 1))[None, :, :, None]
    bits, small = picture_bits(ramp)
    assert np.unpackbits(bits.astype(">u2").view(np.uint8)).sum() == 64  # brighter to the right everywhere, downwards nowhere
    np.testing.assert_allclose(small.reshape(9, 9)[0], ramp[0, 0, :, 0].reshape(9, 4).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 7, 1), (1, 28, 28, 3), (1, 9, 9, 1), (1, 224, 100, 3)])
def test_fields_cover_a_picture_of_any_size(shape):
    picture = np.full(shape, 93, dtype=np.uint8)
    assert picture_bits(picture)[1] == pytest.approx(np.full((1, 81), 93.0))


def test_a_picture_saved_again_agrees_in_a_band():
    import io

    from PIL import Image

    random = np.random.default_rng(2)
    shown = np.kron(random.integers(0, 255, (20, 6, 6), dtype=np.uint8), np.ones((8, 8), dtype=np.uint8))
    again = []
    for one in shown:
        with io.BytesIO() as file:
            Image.fromarray(one).save(file, "JPEG", quality=60)
            again.append(np.asarray(Image.open(file)))
    first, _ = picture_bits(shown[..., None])
    second, _ = picture_bits(np.stack(again)[..., None])
    assert (first == second).any(axis=1).all()
