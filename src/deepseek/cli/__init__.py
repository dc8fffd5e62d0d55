"""The command line: each verb parses, calls the public function of the same name, and prints.

Results go to stdout; progress, warnings and errors go to stderr. Exit status: 0 done, 1 the work failed, 2 something given was wrong,
3 `watch` raises an alarm, 4 what is planned does not fit, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from deepseek import progress
from deepseek.cli.output import print_output, report_error
from deepseek.errors import DeepSeekError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: What stands behind `deepseek`; that of the process where not given.
    """
    from deepseek.cli.app import INTERRUPTED, run_app

    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    try:
        with progress.hushed(False):  # a verb's --json is of this call alone
            output = run_app(given)
        if output is not None and progress.speaks():
            print_output(output, as_json=as_json)
        sys.stdout.flush()
        return output.status if output is not None else 0
    except DeepSeekError as error:
        report_error(error, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        if as_json:
            hint = "a run goes on with: deepseek run RUN --resume" if {"train", "run"} & set(given) else None
            report_error(DeepSeekError("interrupted", hint=hint), as_json=True)
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader (`| head`) has seen enough; the flush at exit would complain once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
