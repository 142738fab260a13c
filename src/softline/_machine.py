from softline._kernels import multiply_add, read
