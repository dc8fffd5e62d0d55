"""Words that stand in like surroundings, learned from prepared rows: what may serve as synonyms where there is no thesaurus."""

from __future__ import annotations

import numpy as np

from deepseek.data.prepared import PreparedDataset

MOST_WORDS = 4_000
LEAST_COUNT = 5
FUNCTION_WORDS = 50
"""So many of the most frequent words are left alone: articles, pronouns and the like have no synonyms."""
WINDOW = 4
DIMENSIONS = 64
SMOOTHING = 0.75
_ROWS_AT_ONCE = 65_536
_PASSES = 6


def nearest_words(
    rows: PreparedDataset, name: str, *, words: np.ndarray, begins: np.ndarray, most: int, least: float
) -> dict[int, list[int]]:
    """Return the nearest neighbours of each frequent word, by token, the nearest first.

    Two words are near if words stand around them alike: the cosine of vectors from the positive pointwise mutual information of words at
    most four apart, in 64 dimensions (Levy and Goldberg 2014, https://papers.nips.cc/paper/5477). It is the same in every process.

    Args:
        rows: The training rows.
        name: The ragged input that holds their tokens.
        words: The tokens that are words, int64.
        begins: Of every token, whether it begins a word, bool `[v]`: a word is counted only where its token is all of it.
        most: The most neighbours of a word.
        least: How large the cosine is at least.
    """
    tokens, row = _whole_words(rows, name, words=words, begins=begins)
    frequent, counts = np.unique(tokens, return_counts=True)
    order = np.argsort(-counts, kind="stable")[FUNCTION_WORDS:MOST_WORDS]
    used = frequent[order[counts[order] >= LEAST_COUNT]]
    if len(used) < 2:
        return {}
    vectors = _vectors(_together(tokens, row, used))
    near: dict[int, list[int]] = {}
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1)
    for place, token in enumerate(used):
        best = np.argsort(-alike[place], kind="stable")[:most]
        near[int(token)] = [int(used[other]) for other in best if alike[place, other] >= least]
    return near


def _whole_words(rows: PreparedDataset, name: str, *, words: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the words of all rows that are one token each, in order, and the row each stands in."""
    is_word = np.zeros(len(begins), dtype=bool)
    is_word[words] = True
    tokens, places = [], []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        ids = rows.ragged(name, np.arange(start, min(start + _ROWS_AT_ONCE, len(rows))))
        last = np.ones(len(ids.values), dtype=bool)
        last[:-1] = begins[ids.values[1:]]
        last[ids.offsets[1:] - 1] = True
        row = np.repeat(np.arange(start, start + len(ids)), np.diff(ids.offsets))
        kept = is_word[ids.values] & last
        tokens.append(ids.values[kept].astype(np.int64))
        places.append(row[kept])
    return np.concatenate(tokens), np.concatenate(places)


def _together(tokens: np.ndarray, row: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return how often two words stand near each other, nearer ones counting more, symmetric `[w, w]`."""
    code = np.full(int(max(tokens.max(), used.max())) + 1, -1, dtype=np.int64)
    code[used] = np.arange(len(used))
    coded, size = code[tokens], len(used)
    counts = np.zeros(size * size)
    for step in range(1, WINDOW + 1):
        pairs = (row[step:] == row[:-step]) & (coded[step:] >= 0) & (coded[:-step] >= 0)
        counts += np.bincount(coded[:-step][pairs] * size + coded[step:][pairs], minlength=size * size) / step
    square = counts.reshape(size, size)
    return square + square.T


def _vectors(together: np.ndarray) -> np.ndarray:
    """Return a vector of length 1 for each word, from the leading eigenvectors of the positive pointwise mutual information."""
    total = together.sum()
    own = together.sum(axis=1) / max(total, 1.0)
    context = own**SMOOTHING / max((own**SMOOTHING).sum(), 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(together / max(total, 1.0) / (own[:, None] * context))
    positive = np.nan_to_num(np.maximum(information, 0), posinf=0.0)
    positive = (positive + positive.T) / 2
    width = min(DIMENSIONS, len(positive))
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((len(positive), width)))[0]
    for _ in range(_PASSES):  # subspace iteration: the leading eigenvectors of a symmetric matrix without all the others
        basis = np.linalg.qr(positive @ basis)[0]
    values, turned = np.linalg.eigh(basis.T @ positive @ basis)
    vectors = basis @ turned * np.sqrt(np.abs(values))
    lengths: np.ndarray = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    made: np.ndarray = vectors / lengths
    return made
