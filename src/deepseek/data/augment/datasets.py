"""Data sets of any kind, augmented: the same kind of thing comes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from deepseek.data.augment.base import mix_seed
from deepseek.data.augment.worker import IMAGE, Worker
from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset
from deepseek.errors import InputError

IMAGE_NAMES = ("image", "images", "img", "pixel_values", "x")
LABEL_NAMES = ("label", "labels", "target", "targets", "fine_label", "y")


def transformed(dataset: Any, work: Worker, batch_size: int) -> Any:
    """Return a data set augmented; see `ImageAugmenter.transform`.

    Raises:
        InputError: It is no kind of data set that is known.
    """
    if isinstance(dataset, Batch):
        return work.apply(dataset, 0)
    if isinstance(dataset, PreparedDataset):
        return AugmentedRows(dataset, work)
    if _is_pair(dataset):
        return _transform_arrays(dataset, work, batch_size)
    if type(dataset).__module__.split(".")[0] == "datasets":
        return _transform_hugging_face(dataset, work, batch_size)
    if isinstance(dataset, IterableDataset):
        return AugmentedItems(dataset, work, batch_size)
    if isinstance(dataset, DataLoader) or (isinstance(dataset, Sequence) and len(dataset) and _is_batch(dataset[0])):
        return AugmentedBatches(dataset, work)
    if isinstance(dataset, Dataset) or (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        return AugmentedDataset(dataset, work)
    if isinstance(dataset, Iterable):
        return AugmentedBatches(dataset, work)
    raise InputError(
        f"{type(dataset).__name__} is no data set", hint="give (x, y), a DataLoader, batches, a Dataset, or a Hugging Face data set"
    )


class AugmentedBatches:
    """Batches, augmented as they are read; each time it is iterated over, the draws are those of the next epoch.

    Args:
        batches: A `DataLoader`, or any iterable of batches.
        work: What to do with them.

    Attributes:
        epoch: The epoch of the next iteration; may be set.
    """

    def __init__(self, batches: Iterable[Any], work: Worker) -> None:
        self.batches, self.epoch = batches, 0
        self._work = work

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        for step, batch in enumerate(self.batches):
            if isinstance(batch, Batch):
                yield self._work.apply(batch, epoch, step)
                continue
            images, labels = _parts(batch)
            if self._work.needs_classes(labels):
                self._work.classes = self._count()
            yield _rebuilt(batch, *self._work(images, labels, epoch, step))

    def _count(self) -> int:
        known = _known_classes(getattr(self.batches, "dataset", self.batches))
        if known is not None:
            return known
        if isinstance(self.batches, Iterator):
            raise InputError("how many classes there are cannot be seen in batches that are read once", hint="give classes=")
        return max(int(torch.as_tensor(np.asarray(_parts(batch)[1])).max()) for batch in self.batches) + 1


class AugmentedItems(IterableDataset[Any]):
    """Items of an iterable data set, augmented together as they come.

    Args:
        items: The data set.
        work: What to do with them.
        batch_size: How many make one choice.

    Attributes:
        epoch: The epoch of the next iteration; may be set.
    """

    def __init__(self, items: Iterable[Any], work: Worker, batch_size: int) -> None:
        self.items, self.epoch = items, 0
        self._work, self._batch_size = work, batch_size

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        items, step = iter(self.items), 0
        while group := list(islice(items, self._batch_size)):
            images, labels = zip(*map(_parts, group), strict=True)
            targets = default_collate(list(labels))
            if self._work.needs_classes(targets):
                raise InputError("how many classes there are cannot be seen in items that are read once", hint="give classes=")
            made, soft = self._work(_stacked(images), targets, epoch, step)
            for item, image, label in zip(group, made, soft, strict=True):
                yield _rebuilt(item, _like(image, _parts(item)[0]), label)
            step += 1


class AugmentedDataset(Dataset[Any]):
    """A data set whose items are augmented when they are asked for; an item makes its own choice and is mixed with a random other one.

    Args:
        items: The data set: items are pairs of an image and a label, or mappings with both.
        work: What to do with them.
    """

    def __init__(self, items: Any, work: Worker) -> None:
        self.items = items
        self._work, self._epoch = work, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for an epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Any:
        rows = len(self.items)
        place = range(rows)[place]
        other = (place + 1 + mix_seed(self._work.seed, self._epoch, place, 1) % max(rows - 1, 1)) % rows
        item = self.items[place]
        (image, label), (second, label_of_second) = _parts(item), _parts(self.items[other])
        targets = default_collate([label, label_of_second])
        if self._work.needs_classes(targets):
            self._work.classes = self._count()
        made, soft = self._work(_stacked([image, second]), targets, self._epoch, place)
        return _rebuilt(item, _like(made[0], image), soft[0])

    def _count(self) -> int:
        known = _known_classes(self.items)
        return known if known is not None else max(int(_parts(self.items[row])[1]) for row in range(len(self.items))) + 1


class AugmentedRows(PreparedDataset):
    """Prepared rows that are augmented when they are taken; the draws follow from which rows are taken together, and so change by epoch.

    Args:
        rows: The rows; the first input that is an image is augmented.
        work: What to do with them.
    """

    def __init__(self, rows: PreparedDataset, work: Worker) -> None:
        self.__dict__.update(vars(rows))  # whatever a data set holds, in memory or mapped, stands in its attributes
        self._rows_of, self._work = rows, work
        images = [column.name for column in rows.layout if column.role == "input" and len(column.shape) == 3]
        if not images:
            raise InputError("no input of these rows is an image [h, w, c]", hint="prepare images, or take another augmentation")
        self._image = images[0]

    def take(self, rows: np.ndarray | Sequence[int], *, pin: bool = False, ragged: bool = True) -> Batch:
        """Return rows as a batch, augmented."""
        batch = self._rows_of.take(rows, pin=pin, ragged=ragged)
        if self._work.augmenter.softens and self._work.classes is None:
            targets = self._rows_of.take(np.arange(len(self)), ragged=False).targets.values()
            self._work.classes = max((int(codes.max()) + 1 for codes in targets if not codes.is_floating_point()), default=None)
        image = batch.inputs.pop(self._image)
        given = Batch({IMAGE: image}, batch.targets, batch.weight, batch.row)
        made = self._work.apply(given, crc32(np.ascontiguousarray(rows, dtype=np.int64).tobytes()))
        return Batch({**batch.inputs, self._image: made.inputs[IMAGE]}, made.targets, made.weight, batch.row)


def _transform_arrays(pair: Any, work: Worker, batch_size: int) -> Any:
    images, labels = pair
    if len(images) != len(labels):
        raise InputError(f"there are {len(images)} images and {len(labels)} labels", hint="one label each")
    if work.needs_classes(labels):
        work.classes = int(labels.max()) + 1
    parts = [
        work(images[start : start + batch_size], labels[start : start + batch_size], 0, step)
        for step, start in enumerate(range(0, len(images), batch_size))
    ]
    if not parts:
        return type(pair)((images, labels))
    return type(pair)([_joined([part[which] for part in parts]) for which in range(2)])


def _transform_hugging_face(dataset: Any, work: Worker, batch_size: int) -> Any:
    import datasets

    if not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        raise InputError(f"{type(dataset).__name__} holds several data sets", hint="transform its training part: dataset['train']")
    features = dataset.features
    if features is None:
        raise InputError("the data set does not say what its columns are", hint="give it features, or hand over its batches")
    image, label = _name(features, IMAGE_NAMES, "images"), _name(features, LABEL_NAMES, "labels")
    if work.classes is None and isinstance(features[label], datasets.ClassLabel):
        work.classes = features[label].num_classes
    made_features = features.copy()
    if work.augmenter.softens:
        made_features[label] = datasets.Sequence(datasets.Value("float32"))

    def change(columns: Mapping[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        labels = np.asarray(columns[label])
        if work.needs_classes(labels):
            raise InputError(f"how many classes {label!r} has is not known", hint="give classes=")
        images, targets = work(_stacked(columns[image]).numpy(), labels, 0, rows[0] // batch_size)
        return {**columns, image: [_like(one, columns[image][0]) for one in images], label: targets.tolist()}

    return dataset.map(change, batched=True, batch_size=batch_size, with_indices=True, features=made_features)


def _joined(parts: list[Any]) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) else np.concatenate(parts)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)


def _is_pair(dataset: Any) -> bool:
    return isinstance(dataset, tuple | list) and len(dataset) == 2 and all(map(_is_array, dataset))


def _is_batch(item: Any) -> bool:
    if isinstance(item, Batch):
        return True
    try:
        images, labels = _parts(item)
    except InputError:
        return False
    return _is_array(images) and np.ndim(labels) > 0 and len(images) == len(labels)


def _parts(item: Any) -> tuple[Any, Any]:
    """Return the images and the labels of a batch, or the one of an item."""
    if isinstance(item, Mapping):
        return item[_name(item, IMAGE_NAMES, "images")], item[_name(item, LABEL_NAMES, "labels")]
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise InputError(f"a batch is given as {type(item).__name__}", hint="images and labels come as a pair, or under their names")


def _name(columns: Mapping[str, Any], names: Sequence[str], what: str) -> str:
    for name in names:
        if name in columns:
            return name
    raise InputError(f"the {what} are not found among {', '.join(columns)}", hint=f"name them one of: {', '.join(names)}")


def _rebuilt(item: Any, images: Any, labels: Any) -> Any:
    if isinstance(item, Mapping):
        return {**item, _name(item, IMAGE_NAMES, "images"): images, _name(item, LABEL_NAMES, "labels"): labels}
    whole = [images, labels, *item[2:]]
    return type(item)(*whole) if hasattr(item, "_fields") else type(item)(whole)


def _stacked(images: Sequence[Any]) -> Tensor:
    tensors = [image if isinstance(image, Tensor) else torch.from_numpy(np.array(image)) for image in images]
    sizes = {tuple(tensor.shape) for tensor in tensors}
    if len(sizes) > 1:
        raise InputError(f"images of different sizes come together: {', '.join(map(str, sorted(sizes)[:3]))}", hint="resize them first")
    return torch.stack(tensors)


def _like(made: Any, given: Any) -> Any:
    """Return an image in the type that it was given in."""
    if isinstance(given, Tensor):
        return torch.as_tensor(made)
    array = made.numpy() if isinstance(made, Tensor) else made
    return Image.fromarray(array) if isinstance(given, Image.Image) else array


def _known_classes(dataset: Any) -> int | None:
    """Return how many classes a data set says that it has."""
    if isinstance(dataset, TensorDataset):
        return int(dataset.tensors[1].max()) + 1
    names = getattr(dataset, "classes", None)
    if isinstance(names, Sequence) and not isinstance(names, str):
        return len(names)
    codes = getattr(dataset, "targets", None)
    return int(torch.as_tensor(codes).max()) + 1 if codes is not None and len(codes) else None
