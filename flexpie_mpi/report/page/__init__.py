"""Reports on results as a page: sections of text, tables and pictures, and the same numbers for scripts.

In go rows of :mod:`flexpie_mpi.suite.results`; out comes ``README.md`` with its pictures beside it, a record for JSON,
and lines for a terminal. A section appears only where rows have something to say about it. The one difficulty: nothing
may be left out silently, so what could not be compared is named at the end.
"""
