"""The section `serve`: how a model is served over HTTP, and several of them behind one address."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from deepseek.recipe.quantities import Duration, Flag, Integer, Number, Size
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import AUTO, Count, NotNegative, Positive, Text


class BatchingSection(Section):
    """How requests that come at the same time are answered together."""

    max_size: Count = 64
    """Most rows that go through the network at once."""
    max_wait_ms: NotNegative = 0.0
    """How long an idle model waits for more rows; a busy one gathers them without waiting."""
    max_queue: Count = 4096
    """Most rows that wait for the model; what comes beyond is refused with 429."""


class GuardSection(Section):
    """When a challenger is taken out by itself."""

    failures: Annotated[Number, Gt(0), Lt(1)] | None = 0.05
    """The share of its requests that a challenger may fail: surely more ends the experiment."""
    latency: Annotated[Number, Gt(1)] | None = 2.0
    """How many times the champion's p99 its own may be."""
    metric: NotNegative | None = 0.0
    """By how much its metric may be worse, in the metric's unit."""


class ExperimentSection(Section):
    """Several models behind one address."""

    arms: Annotated[dict[str, Text], Field(min_length=1, max_length=8)]
    """The other models by name: runs or bundles."""
    share: Annotated[Number, Gt(0), Le(1)] = 0.1
    """The share of keys that each challenger gets."""
    role: Literal["challenger", "shadow"] = "challenger"
    """Whether they answer for their share, or are asked beside the champion and never answer."""
    key_field: Text | None = None
    """The field of a row that says whom it is about; the header `X-Experiment-Key` goes before it."""
    metric: Literal["auto", "accuracy", "error_rate", "log_loss", "mae", "mse", "reward"] = AUTO
    """What is compared as outcomes come."""
    alpha: Annotated[Number, Gt(0), Lt(1)] = 0.05
    """Largest probability that a difference is ever told where there is none, however often one looks."""
    min_outcomes: Count = 100
    """Outcomes that each arm must have before anything is said."""
    planned_outcomes: Count = 5_000
    """Outcomes after which the intervals are tightest; they hold at any other number too."""
    min_effect: Positive | None = None
    """The smallest difference that matters, for what is still needed to see it; 0.02 of a share, a tenth of the spread of anything else."""
    challenger_timeout: Duration = 1.0
    """How long a challenger may take for an answer before the champion is asked."""
    guard: GuardSection | None = None
    """When a challenger is taken out by itself; not at all where not given."""


class ServeSection(Section):
    """How a model is served over HTTP."""

    host: Text = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for every one of the machine's."""
    port: Annotated[Integer, Ge(0), Le(65_535)] = 8000
    """The port; 0 for any free one."""
    workers: Count = 1
    """Processes that share the port; one that dies is replaced."""
    runners: Annotated[Integer, Ge(0)] = 0
    """Processes of each worker that run the network, so that one that dies costs no request; 0 runs it in the worker itself."""
    backend: Text = AUTO
    """What runs the network; `auto`: the fastest form that was found on this machine, else PyTorch."""
    optimize: Flag = True
    """Whether the fastest form that agrees is looked for where none was, once, at low priority beside answering, and then taken up."""
    keys: Text | None = None
    """A file with the keys that clients show, one a line; `admin:KEY` for one that may also load models."""
    max_body: Size = 10_000_000
    """Largest body of a request, in bytes or with a unit."""
    max_rows: Count = 10_000
    """Most rows of one request."""
    timeout: Duration = 30.0
    """How long a request waits for its answer at most."""
    read_timeout: Duration = 10.0
    """How long a client may take to send its headers, and then its body."""
    drain: Duration = 30.0
    """How long a server that is told to stop goes on with what it has accepted."""
    state: Text | None = None
    """The server's own folder, where it keeps what is to outlive it; one beside the run where it watches, else a temporary one."""
    watch: Flag = False
    """Whether models are watched whose recipe has no section `monitor` too."""
    journal_size: Size = 1_000_000_000
    """Most bytes of answers and outcomes that wait on disk for the watch; beyond, answers are not kept and outcomes are refused."""
    batching: BatchingSection = BatchingSection()
    """How requests that come at the same time are answered together."""
    experiment: ExperimentSection | None = None
    """Another model beside this one, begun with the server."""
