"""What a server answered and what became of it, on disk until a consumer has it: written by many processes, read by one.

Each writer has a file of its own, which it locks while it lives; the lock tells the reader of a death that nobody could report. What
`Journal.outcomes` has taken is on disk. A record is read at least once: after a kill some are read again, and ids make them count once.
"""

from deepseek.serving.journal.reader import JournalReader
from deepseek.serving.journal.records import Answered, Entry, Outcomes, Unanswered
from deepseek.serving.journal.writer import Journal, JournalFullError

__all__ = ["Answered", "Entry", "Journal", "JournalFullError", "JournalReader", "Outcomes", "Unanswered"]
