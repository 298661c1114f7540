"""muon.py - Muon: momentum whose update is made orthogonal, for weight matrices.

After Keller Jordan's description (https://kellerjordan.github.io/posts/muon/)
with the update scaled as in Moonlight (arXiv 2502.16982), so that one learning
rate and one weight decay suit all shapes. Matrices of one shape are stacked
and handled in one batch.

SPDX-License-Identifier: MIT
"""

from collections import defaultdict

import torch


def orthogonalize(batch, steps=5):
    """Towards U V^T of every matrix of [n, rows, columns], by Newton-Schulz
    iteration with the quintic's usual coefficients."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = batch.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr=4e-3, momentum=0.95, weight_decay=0.1):
        super().__init__(parameters, dict(lr=lr, momentum=momentum,
                                          weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, parameters in shapes.items():
                self._step(group, shape, parameters)

    def _step(self, group, shape, parameters):
        momentum = group["momentum"]
        gradients = [p.grad for p in parameters]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            buffers.append(state["momentum"])
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        # Nesterov: look ahead along the momentum.
        looked = torch._foreach_lerp(gradients, buffers, momentum)
        update = orthogonalize(torch.stack(looked))
        scale = 0.2 * max(shape) ** 0.5
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(update.to(parameters[0].dtype)),
                            alpha=-group["lr"] * scale)
