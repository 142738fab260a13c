"""What these kernels compute, :mod:`softline.reference` says: its functions have the same signatures."""

from softline._typing import Array, Metric

METRICS: tuple[Metric, ...]

class Search:
    def __init__(self, Q: Array, X: Array, metric: int) -> None: ...
    def run(
        self, from_query: int, n: int, distances: Array, indices: Array, n_threads: int | None
    ) -> None: ...
    def converted_queries(self, first: int, n: int) -> tuple[Array, Array]: ...

def distances(Q: Array, X: Array, metric: Metric, out: Array, n_threads: int | None = None) -> None: ...
def nearest(
    Q: Array, X: Array, metric: Metric, neigh_dist: Array, neigh_ind: Array, n_threads: int | None = None
) -> None: ...
