"""What things cost: rows that say what is done, traces that say how long it took, models that price what was not timed.

Seconds and bytes throughout. The planner sees only :class:`flexpie_mpi.cost.model.CostModel`.
"""
