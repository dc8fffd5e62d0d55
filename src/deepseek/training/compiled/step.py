"""Whole training steps as one compiled graph: forward, loss, gradients, clipping, optimizer and averaging; several steps a call.

On a small network Python and kernel launches are most of what a step costs. Here a step is traced once into a graph of plain tensor
operations and compiled; no guard and no frame evaluation is left in a call, which is why the shapes, strides and types of a batch are the
key under which a compiled step is kept. Numbers that change from step to step (learning rate, bias correction, the average's decay) go in
as one small tensor, so that no schedule compiles anything anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.distributed.devices import is_out_of_memory
from deepseek.errors import InputError, TrainingError
from deepseek.training.compiled.cuda_graph import GraphedProgram
from deepseek.training.compiled.flat import FlatGroup
from deepseek.training.compiled.graph import SCALARS, StepGraph, tensors_of
from deepseek.training.step import Loss, TrainingStep

STEPS_PER_CALL = 4
"""More steps a call gain a few per cent and compile for longer in proportion."""
_HINT = "take compile: model or off"

_Program = Callable[..., object]
_Key = tuple[object, ...]


class CompiledStep(TrainingStep):
    """A training step that is compiled for the shapes of a batch, and for `steps_per_call` such batches at once.

    It reckons the same formulas in another order of roundings, so that its weights are those of the ordinary step to float32's precision,
    not bit for bit. Several steps a call and one step a call are the same bit for bit. Batches of another shape than the first whole
    one's (an epoch's last one, say) take the ordinary way: they share weights and state with the compiled one.

    A network that draws random numbers (dropout) makes one step a call: its generator is seeded before every step.

    Args:
        model: The network itself, called with a batch's inputs.
        loss: As for `TrainingStep`.
        optimizer: `Adam` or `AdamW` of `torch.optim`; its state may be there already.
        rows: The rows of a whole batch: what is compiled must not depend on which batch a resumed run happens to begin with.
        steps_per_call: The most steps a call, at least 1.
        cuda_graphs: Whether calls are recorded and replayed as CUDA graphs; those of networks that draw random numbers are not.
        options: The keyword arguments of `TrainingStep`.

    Attributes:
        compile_s: Seconds spent tracing and compiling so far.

    Raises:
        InputError: The optimizer, the precision or a rule cannot be compiled into the graph, or there are several ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        *,
        rows: int,
        steps_per_call: int = STEPS_PER_CALL,
        cuda_graphs: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(model, loss, optimizer, **options)
        self._refuse()
        self._model, self._rows, self._cuda_graphs = model, rows, cuda_graphs
        if cuda_graphs and self.numerator.device.type != "cuda":
            raise InputError(f"cuda_graphs needs a CUDA device, and this is {self.numerator.device.type}", hint="leave the key out")
        self.steps_per_call = steps_per_call
        self.compile_s = 0.0
        self.numerator, self.denominator = self.numerator.clone(), self.denominator.clone()  # views of one tensor are costly to mutate
        self._groups = [FlatGroup(optimizer, group) for group in optimizer.param_groups]
        self._graph = StepGraph(
            model,
            loss,
            self._groups,
            sums=(self.numerator, self.denominator),
            average=self.average,
            clip_norm=self.rules.clip_norm,
            decoupled=isinstance(optimizer, torch.optim.AdamW),
        )
        self._programs: dict[_Key, _Program] = {}
        self._shape: _Key | None = None
        self.reset()

    def reset(self) -> None:
        """Take up weights and optimizer state that were replaced."""
        super().reset()
        made = {group.adopt_state() for group in self._groups}
        if len(made) > 1:
            raise InputError(f"compile: step needs groups that have made equally many steps, not {sorted(made)}", hint=_HINT)
        self._made = made.pop()

    def __call__(self, batch: Batch) -> None:
        """Make one optimizer step."""
        self.many([batch], lambda _: None)

    def many(self, batches: Sequence[Batch], begin: Callable[[int], None]) -> None:
        """Make a step with each of several batches.

        Args:
            batches: One a step, at most `steps_per_call`.
            begin: Called with each step's place among them, before it: sets the factor and seeds.
        """
        program = self._program(batches)
        if program is None:
            for place, batch in enumerate(batches):
                begin(place)
                self._single(batch)
            return
        factors = []
        for place in range(len(batches)):
            begin(place)
            factors.append(self._factor)
        self._run(program, batches, factors)

    def _single(self, batch: Batch) -> None:
        program = self._program([batch])
        if program is None:
            super().__call__(batch)
            self._made += 1
        else:
            self._run(program, [batch], [self._factor])

    def _run(self, program: _Program, batches: Sequence[Batch], factors: Sequence[float]) -> None:
        scalars = self._scalars(factors)
        try:
            with torch.no_grad():
                program(*self._graph.state, scalars, *(tensor for batch in batches for tensor in tensors_of(batch)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(f"out of memory in a compiled step: {error}", hint="lower batch_size, or take compile: off") from error
        self._made += len(batches)

    def _program(self, batches: Sequence[Batch]) -> _Program | None:
        """Return the compiled form for these batches; nothing where they take the ordinary way."""
        if self.micro_batches > 1:
            return None
        if self._shape is None and len(batches[0]) == self._rows:
            self._shape = _shape_of(batches[0])
        if any(_shape_of(batch) != self._shape for batch in batches):
            return None
        key = (len(batches), self._model.training)
        if key not in self._programs:
            if len(batches) not in {1, self.steps_per_call}:
                return None
            program = self._compile(batches)
            if program is None:
                return None
            self._programs[key] = program
        return self._programs[key]

    def _scalars(self, factors: Sequence[float]) -> Tensor:
        """Return what changes from step to step, float32 `[steps, 3 · groups + 1]`, reckoned in float64."""
        weights = self.average.advance(len(factors)) if self.average else [0.0] * len(factors)
        rows = []
        for step, (factor, weight) in enumerate(zip(factors, weights, strict=True), self._made + 1):
            row = []
            for group in self._groups:
                rate = group.peak * factor
                decay = 1.0 - rate * group.decay if self._graph.decoupled else group.decay
                row += [rate / (1.0 - group.beta1**step), 1.0 / math.sqrt(1.0 - group.beta2**step), decay]
            rows.append([*row, weight])
        return torch.tensor(rows).to(self.numerator.device)

    def _compile(self, batches: Sequence[Batch]) -> _Program | None:
        """Trace and compile steps with batches like these; nothing where a call of several steps would draw random numbers."""
        began = time.perf_counter()
        from torch._inductor import config
        from torch._inductor.compile_fx import compile_fx
        from torch.fx.experimental.proxy_tensor import make_fx

        def traced(*tensors: Tensor) -> None:
            self._graph.run(tensors, batches[0])

        tensors = [tensor for batch in batches for tensor in tensors_of(batch)]
        example = [*self._graph.state, torch.zeros(len(batches), SCALARS * len(self._groups) + 1, device=self.numerator.device), *tensors]
        try:
            # traced without dynamo: modules of any kind, and in-place changes of buffers, are followed as they happen
            graph = make_fx(traced, tracing_mode="fake", _allow_non_fake_inputs=True)(*example)
            if len(batches) > 1 and _is_random(graph):
                self.steps_per_call = 1
                return None
            with torch.no_grad(), config.patch({"size_asserts": False}):  # `_program` has compared what the assertions would
                compiled = cast(_Program, compile_fx(graph, example))
        except InputError:
            raise
        except Exception as error:  # foreign code: the model, the tracer, the compiler and the C++ compiler behind it
            raise InputError(f"the step cannot be compiled: {type(error).__name__}: {str(error)[:500]}", hint=_HINT) from error
        finally:
            self.compile_s += time.perf_counter() - began
        return GraphedProgram(compiled, fixed=len(self._graph.state)) if self._cuda_graphs and not _is_random(graph) else compiled

    def _refuse(self) -> None:
        rules = self.rules
        why = {
            f"the optimizer {type(self.optimizer).__name__}": type(self.optimizer) not in {torch.optim.Adam, torch.optim.AdamW},
            f"precision {self.precision.name}": self.precision.name != "fp32",
            "several ranks": self.sync is not None,
            "clip_value, l1, l2, max_norm": bool(rules.clip_value or rules.l1 or rules.l2 or rules.max_norm),
            "clip, layer_rates": self.adaptive is not None,
            "on_nonfinite: skip": rules.on_nonfinite == "skip",
            "weights that are not float32": any(parameter.dtype != torch.float32 for parameter in self.parameters),
            "amsgrad or maximize": any(group.get("amsgrad") or group.get("maximize") for group in self.optimizer.param_groups),
        }
        if refused := [name for name, given in why.items() if given]:
            raise InputError(f"compile: step does not go with {', '.join(refused)}", hint="take compile: model, or fp32 Adam or AdamW")


def _shape_of(batch: Batch) -> _Key:
    """Return all that a compiled step takes for granted of a batch."""
    return (*batch.inputs, *batch.targets, *((tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors_of(batch)))


def _is_random(graph: torch.fx.GraphModule) -> bool:
    return any(torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) for node in graph.graph.nodes)
