"""The model that articles build by `deepseek.build_deepseek_model`: convolutions, an LSTM and attention, in Keras.

Legend of shapes: `b` rows · `h`, `w` height and width · `c` channels · `r` rows of the last feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepseek.errors import InputError
from deepseek.models.keras.backend import load_keras

FILTERS = (32, 64, 128)
"""How many filters the first stages have; the last number is kept from there on."""
SMALL_MAP = 8
"""Pixels of the longer side of a feature map from which on it is not halved again."""
WIDTH, HEADS, DROPOUT = 128, 4, 0.3


def build_deepseek_model(input_shape: Sequence[int], num_classes: int) -> Any:
    """Return a Keras model of images: convolutions, an LSTM down the rows of the feature map, attention between the rows, softmax.

    Each row of the feature map is one step of a sequence, so that the LSTM reads an image from top to bottom and every row attends to
    all others. The map is halved until no side has more than 8 pixels: an image of 8 by 8 has one stage, one of 512 by 512 six, and the
    sequence stays short whatever the size. It is an ordinary `keras.Model`: compile it, fit it, save it. In a recipe it is
    `model: {type: keras, builder: build_deepseek_model, arguments: {num_classes: 10}}`.

    Keras runs on PyTorch unless it is imported already or `KERAS_BACKEND` says otherwise.

    Args:
        input_shape: Height, width and channels, each at least 1.
        num_classes: How many classes there are, at least 2; labels are their numbers (`sparse_categorical_crossentropy`) or one-hot.

    Returns:
        `keras.Model` from `[b, h, w, c]` to probabilities `[b, num_classes]`.

    Raises:
        MissingExtraError: Keras is not installed.
        InputError: The shape or the number of classes is none.

    Example:
        ```python
        model = deepseek.build_deepseek_model((28, 28, 1), 10)
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels, epochs=3)
        ```
    """
    height, width, channels = _checked(input_shape, num_classes)
    layers = load_keras().layers
    inputs = layers.Input((height, width, channels), name="image")
    x, stage = inputs, 0
    while stage == 0 or max(height, width) > SMALL_MAP:
        filters = FILTERS[min(stage, len(FILTERS) - 1)]
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", data_format="channels_last")(x)
        if max(height, width) > SMALL_MAP:
            x = layers.MaxPooling2D(2, padding="same", data_format="channels_last")(x)
            height, width = (height + 1) // 2, (width + 1) // 2
        stage += 1
    x = layers.Reshape((height, width * filters))(x)
    x = layers.LSTM(WIDTH, return_sequences=True)(x)
    attended = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, attended]))
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = layers.Dropout(DROPOUT)(x)
    outputs = layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
    return load_keras().Model(inputs, outputs, name="deepseek")


def _checked(input_shape: Sequence[int], num_classes: int) -> tuple[int, int, int]:
    sizes = tuple(input_shape)
    if len(sizes) != 3 or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise InputError(f"input_shape is {input_shape!r}", hint="give height, width and channels: (28, 28, 1)")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise InputError(f"num_classes is {num_classes!r}", hint="give a whole number, at least 2")
    return sizes[0], sizes[1], sizes[2]
