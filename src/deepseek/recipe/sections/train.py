"""The section `train`: how the network is trained."""

from __future__ import annotations

from typing import Literal

from deepseek.recipe.quantities import Duration, Flag, Number
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import (
    AUTO,
    Auto,
    CallbackSpec,
    ClippingSpecs,
    Count,
    ExchangeSpec,
    LayerRatesSpec,
    NotNegative,
    OptimizerSpec,
    Positive,
    ScheduleSpec,
    Seed,
    StrategySpec,
    Text,
)


class EarlyStoppingSection(Section):
    """When to stop because validation gets no better."""

    patience: Count = 10
    """Validations in a row without improvement."""
    min_delta: NotNegative = 0.0
    """Smallest change of the monitored metric that counts as an improvement."""


class CheckpointSection(Section):
    """How often the state is saved, so that a run can be resumed."""

    every_s: Duration = 60.0
    """Seconds between two checkpoints."""
    keep: Count = 2
    """How many of the latest checkpoints stay on disk."""


class TrainSection(Section):
    """How the network is trained."""

    epochs: Count | Auto = AUTO
    """Passes over the training rows."""
    max_steps: Count | None = None
    """Optimizer steps after which training ends, whatever `epochs` says."""
    batch_size: Count | Auto = AUTO
    """Rows in one optimizer step, over all ranks and micro-batches."""
    accumulate: Count = 1
    """Micro-batches that one step's batch is cut into, to save memory; the result is the same."""
    activation_checkpointing: Count | Literal["off", "auto"] = "off"
    """Whose activations are reckoned again: 1 for every repeated block, 2 for every second one …; `auto` where memory would not suffice."""
    learning_rate: Positive | Auto = AUTO
    """The schedule's highest rate."""
    optimizer: OptimizerSpec = AUTO
    """How gradients become steps."""
    schedule: ScheduleSpec = AUTO
    """How the learning rate changes over the run."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = AUTO
    """Type of the arithmetic inside the network; `auto` measures."""
    channels_last: Flag | Auto = AUTO
    """Whether image tensors are laid out with channels last; `auto` measures."""
    compile: Literal["auto", "off", "model", "step"] = AUTO
    """What is compiled: nothing, the model, or the whole step; `auto` is `off`, as short runs do not earn back the time it takes."""
    cuda_graphs: Flag = False
    """With `compile: step` on a CUDA device, whether steps are recorded and replayed as CUDA graphs."""
    clip_norm: Positive | Auto | None = AUTO
    """Largest global norm of the gradient; null for no clipping."""
    clip_value: Positive | None = None
    """Largest absolute value of a gradient's element."""
    clip: ClippingSpecs | None = None
    """How gradients are limited by their history, in the place of `clip_norm` and `clip_value`: one clipping, or several in order."""
    layer_rates: LayerRatesSpec | None = None
    """How each layer's learning rate and weight decay follow its gradient; null for one rate for all."""
    ema: Number | Auto | None = AUTO
    """Decay of the moving average of the weights, between 0 and 1; null for none."""
    l1: NotNegative = 0.0
    """Factor of the sum of absolute weights in the loss."""
    l2: NotNegative = 0.0
    """Factor of half the sum of squared weights in the loss."""
    max_norm: Positive | None = None
    """Largest norm of the weights into one unit."""
    early_stopping: Flag | EarlyStoppingSection | Auto = AUTO
    """Whether training ends when validation gets no better, and with what patience."""
    monitor: Text = AUTO
    """The metric that stopping, saving and tuning look at; `auto` takes the task's."""
    validate_every_epochs: Count | None = None
    """Epochs between two validations; 1 where neither this nor the next is given."""
    validate_every_steps: Count | None = None
    """Steps between two validations."""
    checkpoint: CheckpointSection = CheckpointSection()
    """How often the state is saved."""
    callbacks: list[CallbackSpec] = []
    """What else happens beside training."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = []
    """Where metrics go besides `events.jsonl`."""
    devices: Count | Auto = 1
    """Accelerators or processes to train on."""
    device: Text = AUTO
    """`auto`, `cpu`, or an accelerator by its torch name, such as `cuda`."""
    strategy: StrategySpec = AUTO
    """How several devices share out the model: `ddp`, `fsdp`, `tensor`, `pipeline`, `horovod`, or `auto` by memory."""
    communication: ExchangeSpec = AUTO
    """How several devices sum their gradients; `auto` is `all_reduce`, exactly."""
    shares: Literal["auto", "equal"] | list[Count] = "equal"
    """How several devices share a batch: evenly, by their measured speed, or in given proportions."""
    on_nonfinite: Literal["raise", "skip"] = "raise"
    """What a NaN or infinite loss does: end the run, or leave out the step."""
    loss_spikes: Positive | None = 8.0
    """From how many deviations above what it was a training loss is named as having leapt; null for no such words."""
    stall: Duration | None = 600.0
    """Time without a step, batch or validation after which is said what training waits for, and several devices stop; null for never."""
    peak_tflops: Positive | None = None
    """What the device can do at most, in 10¹² operations a second, for the share of it that is used; known of some by name."""
    time_limit: Duration | None = None
    """Time after which training ends with the best weights so far."""
    deterministic: Flag = True
    """Whether the same seed gives the same numbers bit for bit."""
    seed: Seed | None = None
    """Seed of weights, order and dropout; the recipe's where not given."""
