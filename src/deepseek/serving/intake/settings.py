"""What `deepseek ingest` goes by: addresses, sizes and times."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le

from deepseek.recipe.quantities import Duration, Integer, Size
from deepseek.recipe.sections import Section
from deepseek.recipe.values import Count, Text

ATTRIBUTES = (
    "x-*", "filename", "path", "absolute.path", "uuid", "mime.type", "fragment.*", "segment.original.filename", "record.count",
)  # fmt: skip
"""Headers that are attributes: those of a usual prefix, and what Apache NiFi calls the attributes that every flow file may have."""


class IngestSettings(Section):
    """How contents are taken in."""

    host: Text = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for every one of the machine's."""
    port: Annotated[Integer, Ge(0), Le(65_535)] = 8010
    """The port; 0 for any free one."""
    keys: Text | None = None
    """A file with the keys that clients show, one a line."""
    topics: tuple[Text, ...] = ()
    """The topics that may be posted to; any, up to 256, where not given."""
    attributes: tuple[Text, ...] = ()
    """More headers that are attributes, as patterns with `*`, besides `x-*` and those that Apache NiFi gives every flow file."""
    max_body: Size = 1_000_000_000
    """Largest body of a request, in bytes or with a unit."""
    max_records: Count = 1_000_000
    """Most records of one content."""
    max_backlog: Size = 4_000_000_000
    """Most bytes that are stored, or on their way, and not in a part yet; beyond, clients are told to come again (429)."""
    full_status: Literal[429, 503] = 429
    """The status of that answer; Apache NiFi's InvokeHTTP sends a flow file on to Retry for 503, and to No Retry for 429."""
    max_waiting: Count = 100_000
    """Most contents that are not in a part yet."""
    max_requests: Count = 64
    """Most requests that are received at the same time."""
    max_pause: Duration = 10.0
    """How long a client may take for its headers, and how long it may send nothing within its body."""
    min_rate: Size = 1_000
    """The bytes a second that a client must keep up."""
    flush_interval: Duration = 5.0
    """How long a content waits at most until it is in a part, where a reader sees it."""
    part_size: Size = 64_000_000
    """Small parts are joined up to this size."""
    drain: Duration = 30.0
    """How long a server that is told to stop goes on with what it has accepted."""
