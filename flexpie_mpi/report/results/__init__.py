"""What rows of results say, in numbers: cells, ratios, gains, speed-ups, errors.

In go rows of :mod:`flexpie_mpi.suite.results`; out come numbers for :mod:`flexpie_mpi.report.page` to tell and for
:mod:`flexpie_mpi.report.plots` to draw. The one difficulty: times are worth comparing only where they were measured
side by side, so every ratio is taken round by round inside a cell.
"""
