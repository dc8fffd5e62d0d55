"""Charts from plain numbers, as SVG: small, exact, the same for the same numbers, and never with more points than a screen can show.

Values that are no number leave a gap; a chart without any says so. Colours come from the page (`style`), so a chart follows its theme.
"""

from deepseek.reporting.charts.bars import Bar, bars, histogram, histogram_of_counts
from deepseek.reporting.charts.curves import Reliability, Series, calibration, line, precision_recall, roc
from deepseek.reporting.charts.grids import MOST_CELLS, Grid, heatmap
from deepseek.reporting.charts.marks import Marker
from deepseek.reporting.charts.points import scatter

__all__ = [
    "MOST_CELLS",
    "Bar",
    "Grid",
    "Marker",
    "Reliability",
    "Series",
    "bars",
    "calibration",
    "heatmap",
    "histogram",
    "histogram_of_counts",
    "line",
    "precision_recall",
    "roc",
    "scatter",
]
