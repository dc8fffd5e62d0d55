"""The gradients of a step as one object: gathered once, their norms reckoned once, however many rules look at them.

What is kept of a model's history of gradients is kept by *part*: the model as a whole, a group of its optimizer, or a layer, which is a
module with parameters of its own. Nothing here waits for the device, and no loop goes over parameters but those of PyTorch's own
`_foreach` functions.

Legend of shapes: `p` trained parameters, in the order of the optimizer's groups · `k` parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from deepseek.errors import CheckpointError, InputError

Per = Literal["model", "group", "layer"]
"""Whose history is kept: the whole model's, each group's of the optimizer, or each layer's."""
_MODEL = "model"
_MADE, _PARTS, _BETWEEN = "made", "parts", "\n"
RESUME_HINT = "resume with the settings of that run, or start a new run"


@dataclass(frozen=True)
class Trained:
    """A parameter that is trained, and where it belongs.

    Attributes:
        name: Its name in the model.
        parameter: The parameter.
        group: The name of its group in the optimizer.
        layer: The name of the module that it is a parameter of.
    """

    name: str
    parameter: nn.Parameter
    group: str
    layer: str


def trained_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Trained]:
    """Return what an optimizer trains of a model, in the optimizer's order.

    Args:
        model: The model.
        optimizer: Over parameters of the model.

    Raises:
        InputError: The optimizer has a parameter that the model has not.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 1))
        >>> [one.layer for one in trained_parameters(net, torch.optim.SGD(net.parameters(), lr=0.1))]
        ['0', '0']
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    trained: list[Trained] = []
    for place, group in enumerate(optimizer.param_groups):
        called = _name_of(group, place)
        called = f"{called}, group {place}" if any(one.group == called for one in trained) else called
        for parameter in group["params"]:
            if parameter not in names:
                raise InputError("the optimizer has a parameter that the model has not", hint="build it over parameters of this model")
            name = names[parameter]
            trained.append(Trained(name, parameter, called, name.rpartition(".")[0] or "the model's own"))
    return trained


class Gradients:
    """The gradients of a step.

    A scaling waits until somebody needs the scaled gradients, as a fused optimizer can do it on its way.

    Args:
        parameters: Those that are trained.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._tensors: list[Tensor] = []
        self._scaling: tuple[Parts, Tensor] | None = None
        self._present: Tensor | None = None
        self._known: dict[tuple[int, ...], Tensor] = {}
        self._norms: Tensor | None = None

    def gather(self) -> None:
        """Take up the gradients as they are now."""
        found = [parameter.grad for parameter in self.parameters]
        self._tensors = [gradient for gradient in found if gradient is not None]
        self._present = None if len(self._tensors) == len(found) else self._places(found)
        self._norms = self._scaling = None

    @property
    def tensors(self) -> list[Tensor]:
        """The gradients that there are; a parameter that the loss does not use has none. Whoever changes them calls `changed`."""
        self.settle()
        return self._tensors

    @property
    def norms(self) -> Tensor:
        """The Euclidean norm of each, `[p]`; 0 for one that is not there."""
        if self._norms is None:
            self._norms = self._full(_norms(self.tensors, 2))
        if self._scaling is None:
            return self._norms
        parts, factors = self._scaling
        return self._norms * parts.spread(factors)

    @property
    def sums(self) -> Tensor:
        """The sum of the elements of each, `[p]`; 0 for one that is not there."""
        # PyTorch has no sums of a list of tensors: twice the sum of what is positive, less the sum of the sizes
        positive = torch._foreach_clamp_min(self.tensors, 0.0) if self.tensors else ()  # noqa: SLF001 (there is no public name)
        return 2.0 * self._full(_norms(positive, 1)) - self._full(_norms(self.tensors, 1))

    @property
    def largest(self) -> Tensor:
        """The largest absolute value of an element, `[]`."""
        return self._full(_norms(self.tensors, math.inf)).max()

    def _full(self, values: Sequence[Tensor]) -> Tensor:
        """Return a number for each of `tensors` as one for each parameter, `[p]`; 0 where there is no gradient."""
        if not values:
            return self.parameters[0].new_zeros(len(self.parameters))
        stacked = torch.stack([*values])
        if self._present is None:
            return stacked
        return stacked.new_zeros(len(self.parameters)).index_copy_(0, self._present, stacked)

    def scale_(self, parts: Parts, factors: Tensor) -> None:
        """Multiply the gradients of each part by its factor, `[k]`; done when it is needed."""
        self.settle()
        self._scaling = parts, factors

    def settle(self) -> None:
        """Carry out a scaling that waits."""
        if self._scaling is None:
            return
        norms, (parts, factors) = self.norms, self._scaling
        self._norms, self._scaling = norms, None
        if not self._tensors:
            return
        each = parts.spread(factors)
        if each.ndim:
            own = each if self._present is None else each[self._present]
            torch._foreach_mul_(self._tensors, own.unbind())
        else:
            torch._foreach_mul_(self._tensors, each)

    def hand_over(self, groups: Sequence[str]) -> list[Tensor] | None:
        """Return what an optimizer is to divide each of its groups' gradients by, `[]` each; nothing where none of it waits.

        Args:
            groups: The groups' names.
        """
        if self._scaling is None or self._scaling[0].per == "layer":
            self.settle()
            return None
        parts, factors = self._scaling
        self._scaling, divisors = None, factors.reciprocal().unbind()
        return [divisors[0 if parts.per == "model" else parts.names.index(name)] for name in groups]

    def changed(self) -> None:
        """Forget the norms: the gradients were changed by somebody else."""
        self._norms = None

    def _places(self, found: Sequence[Tensor | None]) -> Tensor:
        present = tuple(place for place, gradient in enumerate(found) if gradient is not None)
        if present not in self._known:
            self._known[present] = torch.tensor(present, dtype=torch.int64, device=self.parameters[0].device)
        return self._known[present]


class Parts:
    """Which parameter belongs to which part, and sums over a part's parameters.

    Args:
        parameters: Those that are trained.
        per: What a part is.

    Attributes:
        names: The parts' names.
    """

    def __init__(self, parameters: Sequence[Trained], per: Per) -> None:
        self.per = per
        called = [_MODEL if per == "model" else one.group if per == "group" else one.layer for one in parameters]
        self.names = tuple(dict.fromkeys(called))
        places = {name: place for place, name in enumerate(self.names)}
        self.device = parameters[0].parameter.device
        self._of = torch.tensor([places[name] for name in called], device=self.device)
        self._member = self._of == torch.arange(len(self.names), device=self.device).unsqueeze(1)
        self.sizes = self.sums(torch.tensor([float(one.parameter.numel()) for one in parameters], device=self.device))

    def sums(self, values: Tensor) -> Tensor:
        """Add up what parameters have, `[p]`, by part, `[k]`."""
        # no scatter-add, whose order on accelerators changes from run to run, and no product: 0 times infinite is NaN for all other parts
        return values.sum().unsqueeze(0) if len(self.names) == 1 else torch.where(self._member, values, 0.0).sum(1)

    def norms(self, norms: Tensor) -> Tensor:
        """Return the parts' norms, `[k]`, of the parameters', `[p]`."""
        own = norms.unsqueeze(0) if len(self.names) == 1 else torch.where(self._member, norms, 0.0)
        found: Tensor = torch.linalg.vector_norm(own, dim=1)
        return found

    def spread(self, values: Tensor) -> Tensor:
        """Return what parts have, `[k]`, as each parameter's, `[p]`; as one number, `[]`, where there is one part."""
        return values[0] if len(self.names) == 1 else values.index_select(0, self._of)


class Remembering:
    """Something with a history of gradients: tensors on the device with a row for each part, and a count of steps.

    It is saved with a checkpoint and goes on where it stood, bit for bit; on several ranks it is the same on each, as the summed gradients
    are.

    Args:
        parts: The parts.

    Attributes:
        state: The history, `[k, …]` each; whoever derives from this class fills it in its constructor, and changes it in place.
        made: Steps looked at so far.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.state: dict[str, Tensor] = {}
        self.made = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return what must survive a resume: the history, and the names of the parts that its rows are of."""
        names = torch.frombuffer(bytearray(_BETWEEN.join(self.parts.names).encode()), dtype=torch.uint8)
        return {**self.state, _MADE: torch.tensor(self.made), _PARTS: names}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` returned, part by part and by their names; a part that was not there begins without a history.

        That is how a run goes on whose checkpoint was written just before another layer begins to train.

        Raises:
            CheckpointError: It is of another kind, or of parts that are not here.
        """
        names = bytes(tensors[_PARTS].tolist()).decode().split(_BETWEEN) if _PARTS in tensors else []
        given = {name: tensor for name, tensor in tensors.items() if name not in (_MADE, _PARTS)}
        own = {name: (len(self.parts.names), *tensor.shape[1:]) for name, tensor in self.state.items()}
        found = {name: tuple(tensor.shape) for name, tensor in given.items()}
        if found != {name: (len(names), *shape[1:]) for name, shape in own.items()} or _MADE not in tensors:
            raise CheckpointError(f"{type(self).__name__} keeps {own}, and the checkpoint has {found}", hint=RESUME_HINT)
        if others := [name for name in names if name not in self.parts.names]:
            what = f"{type(self).__name__} has {', '.join(self.parts.names)}, and the checkpoint has histories of {', '.join(others)} too"
            raise CheckpointError(what, hint=RESUME_HINT)
        self._take_up(names, given, int(tensors[_MADE]))

    @torch.no_grad()
    def go_on(self, before: Remembering) -> None:
        """Take up the history of parts that were there before what is trained changed; a new part begins without one."""
        self._take_up(before.parts.names, before.state, before.made)

    def _take_up(self, names: Sequence[str], state: Mapping[str, Tensor], made: int) -> None:
        there = [name for name in self.parts.names if name in names]
        device = self.parts.device
        ours = torch.tensor([self.parts.names.index(name) for name in there], dtype=torch.int64, device=device)
        theirs = torch.tensor([names.index(name) for name in there], dtype=torch.int64, device=device)
        for name, tensor in self.state.items():
            tensor.index_copy_(0, ours, state[name].to(device).index_select(0, theirs))
        self.made = made


def _norms(tensors: list[Tensor] | tuple[Tensor, ...], order: float) -> tuple[Tensor, ...]:
    return torch._foreach_norm(tensors, order) if tensors else ()  # noqa: SLF001 (there is no public name)


def _name_of(group: Mapping[str, object], place: int) -> str:
    """Return what a group of an optimizer is called in logs; groups made by `decay_groups` by what they are."""
    if "regularise" not in group:
        return f"group {place}"
    factor = float(str(group.get("learning_rate_factor", 1.0)))
    return f"{'decayed' if group['regularise'] else 'not decayed'}{'' if factor == 1.0 else f', {factor:g} of the rate'}"
