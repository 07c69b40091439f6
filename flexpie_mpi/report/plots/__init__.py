"""Plots of results: functions that take numbers and give what draws them; see :mod:`flexpie_mpi.report.figure`."""
