"""The trunk that is made of operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen
from torch import Tensor, nn

from deepseek.models.base import Trunk
from deepseek.models.operators.base import Operator
from deepseek.registry import component, family

if TYPE_CHECKING:
    OperatorSpec = str | dict[str, Any]
    TrunkSpec = str | dict[str, Any]
else:
    OperatorSpec = component("operator")
    TrunkSpec = component("trunk")


class OperatorsTrunk(Trunk):
    """Operators on the row's vector, one behind another, and a trunk behind them: the place for crosses and gates of one's own.

    Args:
        operators: The operators, in order.
        then: The trunk that is given what they made of the vector; `identity` for none.
    """

    def __init__(self, width_in: int, /, *, operators: Annotated[list[OperatorSpec], MinLen(1)], then: TrunkSpec = "identity") -> None:
        super().__init__(width_in)
        self.operators, width = nn.Sequential(), width_in
        for spec in operators:
            operator: Operator = family("operator").build(spec, width)
            self.operators.append(operator)
            width = operator.width
        self.then: Trunk = family("trunk").build(then, width)
        self.width, self.members = self.then.width, self.then.members

    def forward(self, x: Tensor) -> Tensor:
        """Map `[b, width_in]` to `[b, m, w]`."""
        out: Tensor = self.then(self.operators(x))
        return out
