"""What the keeper of checkpoints does where training ends with an error."""

import pytest

from deepseek.errors import RunError
from deepseek.training.checkpoints.keeper import Keeper


@pytest.mark.parametrize("also", [RunError("the disk is full"), OSError("gone"), ValueError("a shape that no file holds")], ids=repr)
def test_what_a_writer_raises_is_noted_with_the_reason_and_does_not_take_its_place(also):
    keeper = Keeper(None, keep=1)

    def write() -> None:
        raise also

    keeper._writing.begin(write)
    reason = RuntimeError("NaN")
    keeper.abandon(reason)
    assert str(also) in reason.__notes__[0]
    keeper.wait()  # and nothing is raised later
