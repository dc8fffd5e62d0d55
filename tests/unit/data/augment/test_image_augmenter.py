from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from deepseek.data import ImageAugmenter
from deepseek.data.augment.flip import Flip
from deepseek.data.batch import Batch
from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind

ROWS = 24
X = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 6, 3), dtype=np.uint8)
Y = np.arange(ROWS) % 4


def augmenter(**changes):
    return ImageAugmenter(**{"methods": ["cutmix", "mixup"], "probabilities": [0.6, 0.4], "alpha": 1.0, **changes})


def is_mixed(x, y, given=X):
    return x.shape == given.shape and y.shape == (len(given), 4) and np.allclose(np.asarray(y).sum(1), 1) and not np.array_equal(x, given)


def test_the_articles_snippet():
    dataset = (X, Y)
    x, y = ImageAugmenter(methods=["cutmix", "mixup"], probabilities=[0.6, 0.4], alpha=1.0).transform(dataset)
    assert isinstance(x, np.ndarray)
    assert x.dtype == np.uint8
    assert y.dtype == np.float32
    assert is_mixed(x, y)
    assert np.array_equal(augmenter().transform(dataset)[0], x)
    assert not np.array_equal(augmenter().transform(dataset, seed=1)[0], x)


def test_choices_exclude_each_other_and_are_made_by_batch():
    x, y = augmenter(probabilities=[0.3, 0.3]).transform((np.repeat(X, 20, axis=0), np.repeat(Y, 20)), batch_size=8)
    kinds = []
    for start in range(0, len(x), 8):
        given, made = np.repeat(X, 20, axis=0)[start : start + 8], x[start : start + 8]
        same = (made == given).all(axis=-1)
        kinds.append("nothing" if same.all() else "cutmix" if same.mean() > 0.15 and (y[start : start + 8].max(1) < 1).any() else "mixup")
    assert kinds.count("nothing") > 8
    assert y.shape == (480, 4)


@pytest.mark.parametrize("layout", ["hwc", "chw", "grayscale", "float"])
def test_arrays_and_tensors_of_any_layout(layout):
    x = {"hwc": X, "chw": X.transpose(0, 3, 1, 2), "grayscale": X[..., 0], "float": X.astype(np.float64) / 255}[layout]
    made, y = augmenter().transform((x, Y))
    assert made.dtype == x.dtype
    assert is_mixed(made, y, x)
    tensor, labels = augmenter().transform((torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(Y)))
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), made)
    assert labels.dtype == torch.float32
    if layout == "chw":
        plain, _ = augmenter().transform((X, Y))
        assert np.array_equal(made.transpose(0, 2, 3, 1), plain)


def test_a_data_loader_stays_lazy_and_draws_anew_each_epoch():
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=8)
    made = augmenter().transform(loader)
    assert len(made) == 3
    first, second = [list(made) for _ in range(2)]
    assert all(y.shape == (8, 4) for _, y in first)
    assert not torch.equal(first[0][0], second[0][0])
    again = augmenter().transform(loader)
    assert torch.equal(next(iter(again))[0], first[0][0])


def test_iterables_of_batches_in_any_shape():
    pairs = [(X[:8], Y[:8], "extra"), (X[8:16], Y[8:16], "more")]
    made = list(augmenter().transform(pairs))
    assert made[1][2] == "more"
    assert is_mixed(made[0][0], np.pad(made[0][1], ((0, 0), (0, 0))), X[:8])
    named = list(augmenter().transform(iter([{"pixel_values": X, "labels": Y, "id": 5}]), classes=4))
    assert is_mixed(named[0]["pixel_values"], named[0]["labels"])
    assert named[0]["id"] == 5
    with pytest.raises(InputError, match="give classes="):
        list(augmenter().transform(iter([(X, Y)])))
    floats = list(augmenter().transform(iter([(X, np.eye(4, dtype=np.float32)[Y])])))
    assert is_mixed(*floats[0])


class Items(Dataset):
    classes = ("a", "b", "c", "d")

    def __len__(self):
        return ROWS

    def __getitem__(self, place):
        return Image.fromarray(X[place]), int(Y[place])


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(map(torch.from_numpy, X), Y.tolist(), strict=True)


def test_items_of_a_dataset_are_mixed_with_others():
    made = augmenter().transform(Items())
    assert isinstance(made, Dataset)
    assert len(made) == ROWS
    image, label = made[3]
    assert isinstance(image, Image.Image)
    assert label.shape == (4,)
    assert float(label.sum()) == pytest.approx(1)
    assert np.array_equal(np.asarray(made[3][0]), np.asarray(image))
    assert sum(not np.array_equal(np.asarray(made[row][0]), X[row]) for row in range(ROWS)) > ROWS // 2
    made.set_epoch(1)
    assert any(not np.array_equal(np.asarray(made[row][0]), np.asarray(augmenter().transform(Items())[row][0])) for row in range(4))
    with pytest.raises(IndexError):
        made[ROWS]


def test_streams_of_items_are_mixed_together():
    made = list(augmenter().transform(Stream(), classes=4, batch_size=10))
    assert len(made) == ROWS
    assert all(label.shape == (4,) for _, label in made)
    assert not all(torch.equal(image, torch.from_numpy(X[row])) for row, (image, _) in enumerate(made))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_hugging_face_dataset_comes_back_as_one(streamed):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list("abcd"))})
    given = datasets.Dataset.from_dict({"image": [Image.fromarray(image) for image in X], "label": Y.tolist()}, features=features)
    given = given.to_iterable_dataset() if streamed else given
    made = augmenter().transform(given, batch_size=8)
    assert isinstance(made, type(given))
    rows = list(made)
    assert len(rows) == ROWS
    assert all(len(row["label"]) == 4 and sum(row["label"]) == pytest.approx(1) for row in rows)
    assert not all(np.array_equal(np.asarray(row["image"]), image) for row, image in zip(rows, X, strict=True))
    assert rows[0]["image"].size == (6, 8)
    if not streamed:
        with pytest.raises(InputError, match="training part"):
            augmenter().transform(datasets.DatasetDict({"train": given}))


def test_prepared_rows_are_augmented_when_taken():
    specs = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (8, 6, 3), "uint8")}
    rows = PreparedDataset.from_arrays({"photo": X}, {"target": Y}, specs=specs)
    made = augmenter().transform(rows)
    assert isinstance(made, PreparedDataset)
    assert made.inputs.keys() == specs.keys()
    batch = made.take(np.arange(8))
    assert batch.targets["target"].shape == (8, 4)
    assert torch.equal(batch.inputs["photo"], made.take(np.arange(8)).inputs["photo"])
    first, second = (next(Loader(made, batch_size=8).batches(epoch)) for epoch in (0, 1))
    assert not torch.equal(first.inputs["photo"], second.inputs["photo"])
    assert rows.take([0]).targets["target"].dtype == torch.int64


def test_a_batch_alone():
    made = augmenter().transform(Batch({"image": torch.from_numpy(X)}, {"target": torch.from_numpy(Y)}), classes=4)
    assert is_mixed(made.inputs["image"].numpy(), made.targets["target"].numpy())


def test_any_callable_is_a_method():
    def darker(images):
        return images // 2

    x, y = ImageAugmenter(methods=[darker], probabilities=[1.0]).transform((X, Y))
    assert np.array_equal(x, X // 2)
    assert np.array_equal(y, Y)
    x, y = ImageAugmenter(methods=[darker, "mixup"], probabilities=[1.0, 0.0]).transform((X, Y))
    assert np.array_equal(y, np.eye(4)[Y])
    x, _ = ImageAugmenter(methods=[Flip({"image": InputSpec("image", Kind.IMAGE, (), (), "uint8")}, probability=1.0)]).transform((X, Y))
    assert np.array_equal(x, X[:, :, ::-1])
    with pytest.raises(InputError, match="must return as many"):
        ImageAugmenter(methods=[lambda images: images[:1]]).transform((X, Y))


def test_alpha_goes_to_every_mixing_method():
    given = augmenter(methods=["cutmix", {"type": "mixup", "alpha": 0.2}], alpha=3.0)
    assert [part.alpha for part in given.parts] == [3.0, 3.0]
    assert [part.alpha for part in augmenter(methods=["cutmix", {"type": "mixup", "alpha": 0.2}], alpha=None).parts] == [1.0, 0.2]


def test_what_is_no_data_set_is_refused():
    with pytest.raises(InputError, match="is no data set"):
        augmenter().transform(5)
    with pytest.raises(InputError, match="24 images and 3 labels"):
        augmenter().transform((X, Y[:3]))
    with pytest.raises(InputError, match=r"come to 1\.2"):
        augmenter(probabilities=[0.6, 0.6])
    with pytest.raises(InputError, match="at least 1"):
        augmenter().transform((X, Y), batch_size=0)
    with pytest.raises(InputError, match="not found among a, b"):
        list(augmenter().transform([{"a": X, "b": Y}], classes=4))
