from softline._kernels import loss_gradient, candidate_losses, coordinate_descent, cholesky_solve
