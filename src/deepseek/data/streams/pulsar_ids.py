"""Pulsar's message ids as whole numbers that grow: the ledger in 28 bits, the entry in 20, the place in a batch in 15."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepseek.data.streams.pulsar_library import pulsar_library
from deepseek.errors import DataError

if TYPE_CHECKING:
    import pulsar

_ENTRY_BITS, _BATCH_BITS = 20, 15
_LEDGER_BITS = 63 - _ENTRY_BITS - _BATCH_BITS


def number_of(message_id: Any) -> int:
    """Return the number of a message's id; 0 for that of a topic without messages.

    Raises:
        DataError: It does not fit: a ledger of more than a million entries, or a batch of more than 32,765 messages.
    """
    ledger, entry, place = (
        message_id.ledger_id(),
        message_id.entry_id(),
        message_id.batch_index() + 2,
    )  # 1 where there is no batch: 0 is no message
    if ledger < 0 or entry < 0:
        return 0
    if ledger >= 1 << _LEDGER_BITS or entry >= 1 << _ENTRY_BITS or place >= 1 << _BATCH_BITS:
        raise DataError(
            f"the message id ({ledger}, {entry}, {place - 2}) does not fit into 63 bits",
            hint="set the broker's managedLedgerMaxEntriesPerLedger and the producers' batches to smaller values",
        )
    return int((ledger << _ENTRY_BITS | entry) << _BATCH_BITS | place)


def id_of(number: int) -> pulsar.MessageId:
    """Return the id that has a number; the one before all messages for 0."""
    pulsar = pulsar_library()
    if not number:
        return pulsar.MessageId.wrap(pulsar.MessageId.earliest)
    entry = number >> _BATCH_BITS
    place = (number & (1 << _BATCH_BITS) - 1) - 2
    return pulsar.MessageId(-1, entry >> _ENTRY_BITS, entry & (1 << _ENTRY_BITS) - 1, place)
