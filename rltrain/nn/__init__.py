"""Networks of numbers: parameters, passes and gradients by hand or by torch, losses, distributions, optimisers."""
