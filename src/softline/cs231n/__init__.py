"""The modules of the CS231n assignments, under the course's names, on softline's compiled kernels.

Stanford's CS231n, "Deep Learning for Computer Vision", hands out a package ``cs231n`` to be completed. Code
written against it runs on this one by changing where it imports from: names, signatures, shapes, random
draws, printed lines and conventions are the course's. It is an accelerated backend; coursework must be your
own.

Unlike elsewhere in softline, W is (D, C), the penalty reg sum(W * W), without 1/2, and the bias a column of
ones in X, penalised with the others. Computations are in float64.
"""
