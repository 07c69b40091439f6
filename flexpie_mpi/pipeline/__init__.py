"""Plans of most requests per second: a graph, boards and a cost model become a pipeline.

In goes what planners of latency get; a placement problem is made of it (:mod:`flexpie_mpi.placement`), and of its
answer a plan whose stages live on different boards. The one difficulty: what the numbers of the problem say must be
what the plan's programs do, so those of teams are read off programs.
"""

from .pareto import Candidate, Crossover, crossovers, pareto_front, undominated
from .pipeline import EXACT, Pipeline, place
from .problem import PlacementProblem, placement_problem
from .streamed import Streamed, streamed

__all__ = [
    "EXACT", "Candidate", "Crossover", "Pipeline", "PlacementProblem", "Streamed", "crossovers", "pareto_front",
    "place", "placement_problem", "streamed", "undominated",
]  # fmt: skip
