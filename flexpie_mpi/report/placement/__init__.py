"""Reports on placements: solvers against each other, trial by trial, on boards and links drawn from a seed.

In go trials, lines of JSON of which each holds what every solver found on one instance; out come a page like those of
:mod:`flexpie_mpi.report.page`. The one difficulty: where one board holds the whole network nothing is sent and nothing
can be compared, and where a solver finds nothing it has no time, so both are counted and never averaged in.
"""
