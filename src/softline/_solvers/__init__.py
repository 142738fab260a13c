"""Full-batch solvers: objectives, L-BFGS and Newton, proximal steps, curvature, random search."""
