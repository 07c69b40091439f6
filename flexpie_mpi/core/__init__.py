"""The nouns that every other room speaks of: regions, graphs, layouts, plans, programs and timelines.

Nothing here knows a file format of models, MPI or a kernel library. All are frozen dataclasses of ints, strings and
tuples, so that they compare, hash and go into JSON without further code.
"""
