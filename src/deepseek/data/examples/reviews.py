"""Short reviews in four languages, content or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from deepseek.data.examples.paths import free

_ENGLISH = {
    "thing": ["the charger", "the kettle", "this backpack", "the lamp", "the headset", "this notebook", "the jacket", "the drill"],
    "good": ["works perfectly", "feels solid", "was worth every cent", "makes me smile", "does what it promises", "arrived early"],
    "bad": ["broke after a week", "feels cheap", "was a waste of money", "makes a strange noise", "never arrived", "smells of plastic"],
    "form": ["{thing} {claim}.", "Honestly, {thing} {claim}!", "I use it daily and {thing} {claim}.", "{claim}, {thing}, for me at least."],
    "turn": ["I thought {thing} would be bad, but it {claim}.", "People say that {other}; mine {claim}."],
    "tail": ["In use for {n} days."],
}
_GERMAN = {
    "thing": ["das Ladegerät", "der Wasserkocher", "der Rucksack", "die Lampe", "das Notizbuch"],
    "good": ["funktioniert tadellos", "ist jeden Cent wert", "hält, was es verspricht", "kam früher als gedacht"],
    "bad": ["ging nach einer Woche kaputt", "ist rausgeworfenes Geld", "macht seltsame Geräusche", "kam nie an"],
    "form": ["{thing} {claim}.", "Ehrlich gesagt: {thing} {claim}!", "Nach einem Monat: {thing} {claim}."],
    "turn": ["Viele schreiben: {other}. Bei mir: {claim}."],
    "tail": ["Benutzt seit {n} Tagen."],
}
_SPANISH = {
    "thing": ["el cargador", "la tetera", "la mochila", "la lámpara", "el cuaderno"],
    "good": ["funciona de maravilla", "vale cada céntimo", "cumple lo que promete", "llegó antes de tiempo"],
    "bad": ["se rompió en una semana", "es tirar el dinero", "hace un ruido raro", "nunca llegó"],
    "form": ["{thing} {claim}.", "¡Sinceramente, {thing} {claim}!", "Lo uso a diario y {thing} {claim}."],
    "turn": ["Otros dicen que {other}; el mío {claim}."],
    "tail": ["Lo tengo desde hace {n} días."],
}
_JAPANESE = {
    "thing": ["この充電器", "このやかん", "このリュック", "このランプ", "このノート"],
    "good": ["完璧に動きます", "値段以上の価値があります", "とても丈夫です", "予定より早く届きました"],
    "bad": ["一週間で壊れました", "お金の無駄でした", "変な音がします", "届きませんでした"],
    "form": ["{thing}は{claim}。", "正直に言うと、{thing}は{claim}！", "毎日使っていますが、{thing}は{claim}。"],
    "turn": ["{other}と言う人もいますが、私のは{claim}。"],
    "tail": ["使い始めて{n}日目です。"],
}
LANGUAGES = {"en": _ENGLISH, "de": _GERMAN, "es": _SPANISH, "ja": _JAPANESE}
_SHARES = (0.55, 0.15, 0.15, 0.15)
TURNS = 0.2
"""The share of reviews that quote the opposite opinion before their own."""
TAILS = 0.8
"""The share of reviews that say for how long the thing has been in use."""
SLIPS = 0.06
"""The share of reviews whose author ticked the wrong answer."""


def reviews(rows: int = 3_000, *, seed: int = 0) -> pa.Table:
    """Return `review` (a text in English, German, Spanish or Japanese), `stars` given by others, and `content` (yes, no).

    A fifth of the reviews quote the opposite opinion first, so that counting words is not enough; the stars say a little. Six in a hundred
    authors ticked the wrong answer: nobody can be right more often than in 94 of 100.
    """
    random = np.random.default_rng(seed)
    made = [_review(random) for _ in range(rows)]
    texts, content = zip(*made, strict=True)
    stars = [int(np.clip(round(random.normal(3.4 if good else 2.8, 1.1)), 1, 5)) for good in content]
    return pa.table({"review": texts, "stars": stars, "content": ["yes" if good else "no" for good in content]})


def _review(random: np.random.Generator) -> tuple[str, bool]:
    words = LANGUAGES[str(random.choice(list(LANGUAGES), p=_SHARES))]
    good = bool(random.random() < 0.5)

    def pick(kind: str) -> str:
        return str(random.choice(words[kind]))

    form = pick("turn") if random.random() < TURNS else pick("form")
    text = form.format(thing=pick("thing"), claim=pick("good" if good else "bad"), other=pick("bad" if good else "good"))
    tail = f" {pick('tail').format(n=random.integers(2, 400))}" if random.random() < TAILS else ""
    return text[:1].upper() + text[1:] + tail, good != bool(random.random() < SLIPS)


def write_reviews(folder: Path, *, rows: int = 3_000, seed: int = 0) -> Path:
    """Write `reviews.csv`."""
    path = free(folder / "reviews.csv")
    pa.csv.write_csv(reviews(rows, seed=seed), path)
    return path
