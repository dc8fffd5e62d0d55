from __future__ import annotations

import pytest
import torch

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.modules import ImageModule
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.detector import DetectorModel
from deepseek.models.network import parameter_count
from deepseek.tasks.detection import DetectionTask
from deepseek.tasks.model import TaskModel
from deepseek.tasks.multiclass import MulticlassTask


def network(size=(64, 96), **more):
    picture = InputSpec("picture", Kind.IMAGE, ("picture",), (*size, 3), "uint8")
    return DetectorModel({"picture": picture}, {"picture": ImageModule([100.0] * 3, [50.0] * 3)}, **{"width": 0.25, "depth": 0.5, **more})


def pictures(rows, height=64, width=96):
    return {"picture": torch.randint(0, 256, (rows, height, width, 3), dtype=torch.uint8)}


def test_it_is_of_the_size_that_is_promised():
    assert 7.5e6 < parameter_count(network(width=1.0, depth=1.0)) < 8.5e6
    assert parameter_count(network()) < 6e5
    assert parameter_count(network(depth=2.0)) > parameter_count(network(depth=1.0))


@pytest.mark.parametrize("size", [(64, 96), (70, 50)])
def test_every_place_says_where_it_is(size):
    out = network(size).eval()(pictures(2, *size))
    places = out[0, :, -3:]
    for stride in (8, 16, 32):
        grid = places[places[:, 2] == stride]
        assert len(grid) == -(-size[0] // stride) * -(-size[1] // stride)
        assert grid[0, :2].tolist() == [stride / 2, stride / 2]
        assert grid[:, 1].max() < size[0] + stride
    assert torch.equal(out[0, :, -3:], out[1, :, -3:])


def test_an_object_moves_the_answers_of_its_places():
    """Features belong to the places that they are said to belong to: a spot changes most the place that it lies in."""
    torch.manual_seed(0)
    model, plain = network(width=0.5).eval(), torch.full((1, 64, 96, 3), 100, dtype=torch.uint8)
    spot = plain.clone()
    spot[:, 40:48, 16:24] = 255
    change = (model({"picture": spot}) - model({"picture": plain}))[0].abs().sum(dim=1)
    places = model({"picture": plain})[0, :, -3:]
    fine = places[:, 2] == 8
    centre = (places[fine][change[fine] > 0.5 * change[fine].max()][:, :2]).mean(dim=0)
    assert (centre - torch.tensor([20.0, 44.0])).abs().max() < 12


def test_answers_of_a_row_do_not_depend_on_others_and_the_graph_exports():
    torch.manual_seed(0)
    target = TargetSpec("boxes", ("boxes",), ("a", "b"), (1, 1), 2, shape=(64, 96))
    model = TaskModel(network(), DetectionTask(target)).eval()
    batch = pictures(3)
    with torch.no_grad():
        whole, alone = model.predict(batch), model.predict({"picture": batch["picture"][1:2]})
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor[1:2], alone[name], atol=1e-5, rtol=1e-4)

    class Graph(torch.nn.Module):
        def forward(self, picture):
            return model.predict({"picture": picture})

    exported = torch.export.export(Graph(), (batch["picture"],), dynamic_shapes=({0: torch.export.Dim("rows", min=1)},)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(batch["picture"][:2])["box"], whole["box"][:2], atol=1e-5, rtol=1e-4)


def test_tasks_and_networks_that_do_not_fit_say_so():
    with pytest.raises(InputError, match="several grids"):
        TaskModel(network(), MulticlassTask(TargetSpec("classes", ("y",), ("1", "2", "3"), (1, 1, 1), 3)))
    number = InputSpec("x", Kind.NUMBER, ("x",), (1,), "float32")
    picture = InputSpec("p", Kind.IMAGE, ("p",), (3, 64, 64), "float32")
    with pytest.raises(InputError, match="one column of pictures"):
        DetectorModel({"x": number, "p": picture}, {})
