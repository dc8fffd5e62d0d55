"""Where the tokens of each sense look: the attention weights of a trained network on real rows.

Legend of shapes: `b` rows · `l` tokens · `s` senses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepseek.errors import InputError
from deepseek.models.fusion.cross_attention import CrossAttentionFusion
from deepseek.models.network import FeatureNetwork, Network


@dataclass(frozen=True)
class Looks:
    """Where the tokens of some rows look, in the last block, on average over its heads.

    Attributes:
        senses: The senses, as the recipe names their inputs; the columns of a table are one.
        between: float64 `[b, s, s + 1]`: of what the tokens of one sense look at, how much belongs to each other; the last column is
            nowhere. Rows sum to 1, and are NaN where a row lacks the sense.
        tokens: For each row `[k, k + 1]` between its `k` real tokens; the last column is nowhere.
        owners: For each row the sense of each of its real tokens, int64 `[k]`, as a place in `senses`.
        places: For each row which of its sense's tokens each is, int64 `[k]`.
    """

    senses: tuple[str, ...]
    between: np.ndarray
    tokens: tuple[np.ndarray, ...]
    owners: tuple[np.ndarray, ...]
    places: tuple[np.ndarray, ...]


@torch.inference_mode()
def looks(network: FeatureNetwork, inputs: Mapping[str, Tensor]) -> Looks:
    """Return where the tokens of rows look.

    What attention looks at is not what an answer hangs on: a token can be looked at and its value be of no weight (Jain and Wallace, NAACL
    2019, https://arxiv.org/abs/1902.10186). For that see permutation importance.

    Args:
        network: The trained network, in evaluation mode.
        inputs: Rows as the network is given them, by input name.

    Raises:
        InputError: It has no fusion, or one without attention.
    """
    fusion = network.fusion if isinstance(network, Network) else None
    if not isinstance(network, Network) or not isinstance(fusion, CrossAttentionFusion):
        what = "network has no fusion" if fusion is None else f"network's fusion is {type(fusion).__name__}, which has no attention"
        raise InputError(
            f"the {what}",
            hint="train with model: {type: network, fusion: cross_attention}",
        )
    attended = fusion.attended(network.encoded(inputs))
    weights, mask = attended.weights[-1].mean(dim=1).double().numpy(), attended.mask.numpy()
    lengths = list(attended.lengths.values())
    owner = np.repeat(np.arange(len(lengths)), lengths)
    place = np.concatenate([np.arange(length) for length in lengths])
    to_sense = np.eye(len(lengths) + 1)[np.append(owner, len(lengths))]
    shares = weights @ to_sense
    between = np.full((len(mask), len(lengths), len(lengths) + 1), np.nan)
    for row, sense in np.ndindex(*between.shape[:2]):
        own = mask[row] & (owner == sense)
        if own.any():
            between[row, sense] = shares[row, own].mean(axis=0)
    real = [np.flatnonzero(one) for one in mask]
    return Looks(
        tuple(network.senses[key] for key in attended.lengths),
        between,
        tuple(weights[row][np.ix_(one, np.append(one, weights.shape[2] - 1))] for row, one in enumerate(real)),
        tuple(owner[one] for one in real),
        tuple(place[one] for one in real),
    )


def mean_between(between: np.ndarray) -> np.ndarray:
    """Return the mean `[s, s + 1]` of `Looks.between` over the rows that have each sense; NaN for a sense that no row has.

    Args:
        between: `[b, s, s + 1]`.
    """
    has = ~np.isnan(between[..., :1])
    count = has.sum(axis=0)
    mean: np.ndarray = np.where(count > 0, np.nansum(between, axis=0) / np.maximum(count, 1), np.nan)
    return mean
