"""Working copies of the networks in low precision, one a core, that compute gradients at the same time.

The networks are small: their operations take a millisecond, and two cores that share each of them wait for each other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from .dense_convolution import make_dense

Job = TypeVar("Job")
Result = TypeVar("Result")


def named(text_encoder: Any, unet: Any) -> dict[str, Tensor]:
    """Both models' parameters by name, prefixed by the model's."""
    return {
        f"{prefix}/{name}": value
        for prefix, model in (("text_encoder", text_encoder), ("unet", unet))
        for name, value in model.named_parameters()
    }


class Replica:
    """One working copy.

    Args:
        text_encoder, unet: what is copied.
        dtype: of its weights and arithmetic.
    """

    def __init__(self, text_encoder: Any, unet: Any, dtype: torch.dtype) -> None:
        self.text_encoder, self.unet = (copy.deepcopy(model).to(dtype).train() for model in (text_encoder, unet))
        self.dtype = dtype
        make_dense(self.unet)
        self.parameters = named(self.text_encoder, self.unet)

    def predict(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Scaled x0 [D, S, K, n, n] float32 of scaled noisy coefficients [D, S, K, n, n] at timesteps [D, S] under captions [D, L]."""
        embeddings = self.text_encoder(tokens).last_hidden_state.repeat_interleave(t.shape[1], dim=0)
        flat = self.unet(noisy.flatten(0, 1).to(self.dtype), t.flatten(), encoder_hidden_states=embeddings, return_dict=False)[0]
        return flat.float().view_as(noisy)


class Replicas:
    """As many copies as cores may work.

    Args:
        text_encoder, unet: the networks, whose gradients are wanted.
        dtype: of the copies.
        count: copies at most.
    """

    def __init__(self, text_encoder: Any, unet: Any, dtype: torch.dtype, count: int) -> None:
        self._originals = named(text_encoder, unet)
        self._all = [Replica(text_encoder, unet, dtype) for _ in range(count)]
        self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) if count > 1 else None
        self.active = count

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """The function's results, in order; computed at the same time where there is more than one copy."""
        return list(self._pool.map(function, jobs)) if self._pool and self.active > 1 else [function(job) for job in jobs]

    def backward(self, losses: Callable[[Replica, slice], Tensor], rows: int) -> Tensor:
        """Puts the gradient of the rows' mean loss into the originals' `grad`.

        Args:
            losses: of some of the rows [b, ...], by one of the copies.
            rows: how many there are; each active copy takes an even share.

        Returns:
            The losses [rows, ...], detached.
        """
        edges = [rows * k // self.active for k in range(self.active + 1)]
        shares = [(replica, slice(a, b)) for replica, a, b in zip(self._all, edges[:-1], edges[1:], strict=False) if a < b]

        def one(share: tuple[Replica, slice]) -> Tensor:
            loss = losses(*share)
            (loss.mean() * len(loss) / rows).backward()
            return loss.detach()

        results = self.map(one, shares)
        for name, parameter in self._originals.items():
            gradients = [gradient for replica, _ in shares if (gradient := replica.parameters[name].grad) is not None]
            parameter.grad = sum(gradient.to(parameter.dtype) for gradient in gradients) if gradients else None
            for replica, _ in shares:
                replica.parameters[name].grad = None
        return torch.cat(results)

    @torch.no_grad()
    def refresh(self) -> None:
        """The copies take over the originals' weights."""
        for replica in self._all:
            torch._foreach_copy_(list(replica.parameters.values()), list(self._originals.values()))
