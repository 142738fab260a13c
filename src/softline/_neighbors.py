from softline._kernels import distances, nearest, METRICS
