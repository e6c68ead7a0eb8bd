"""Mixture densities as differentiable functions of torch tensors, on the package's kernels.

Values and first derivatives of tensors on the processor come from the C++ kernels, which hold no N x K. Second
derivatives, and forward mode, are taken by torch itself from the same formulas, a block of rows at a time.
"""

from __future__ import annotations

from typing import Any

from mixtura.optional import without_torch

try:
    import torch
except ImportError as error:
    raise without_torch("mixtura.torch") from error

import numpy as np
from numpy.typing import NDArray

from mixtura import backends
from mixtura.backends.base import Rows
from mixtura.complete_data import CompleteData
from mixtura.distributions.mixture import Mixture
from mixtura.estimators import GaussianMixture
from mixtura.joint import Joint
from mixtura.parametric import ParametricMixture, diagonal_places, packed_scales
from mixtura.table import Table

__all__ = ["GaussianMixtureLayer", "from_distribution", "log_prob", "to_distribution"]

Float = NDArray[np.float64]
Tensor = torch.Tensor

# How far the weights' sum may be from 1: they are divided by it.
_OFF = 1e-4

# Numbers that torch's own formulas hold at a time.
_HELD = 1 << 22

_LOG_TWO_PI = 1.8378770664093453


def log_prob(x: Tensor, weights: Tensor, means: Tensor, scale_tril: Tensor) -> Tensor:
    """Log-density of a Gaussian mixture, differentiable with respect to everything.

    It equals ``MixtureSameFamily(Categorical(weights), MultivariateNormal(means, scale_tril=scale_tril)).log_prob(x)``
    and, as that does, divides the weights by their sum.

    Parameters
    ----------
    x : Tensor of shape (..., D)
    weights : Tensor of shape (K,)
        Positive, with the sum 1.
    means : Tensor of shape (K, D)
    scale_tril : Tensor of shape (K, D, D)
        Lower triangles L with a positive diagonal; L L' are the covariances.

    Returns
    -------
    log_density : Tensor of shape (...)

    Raises
    ------
    TypeError
        The tensors are not all float32 or all float64, or lie on several devices.
    ValueError
        Shapes do not fit, weights are off the simplex, or a scale is no lower triangle with a positive diagonal.

    Examples
    --------
    >>> import torch
    >>> from mixtura.torch import log_prob
    >>> x = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> log_prob(x, one, torch.zeros(1, 1, dtype=torch.float64), one[:, None, None]).sum().backward()
    >>> x.grad.tolist()
    [[0.0], [-1.0]]
    """
    _check(x, weights, means, scale_tril)
    rows = x.reshape(-1, means.shape[1])
    lower = scale_tril.tril()
    shares = weights / weights.sum()
    if _forward_levels() > 1:
        # The forward derivative of a function of one's own is not differentiated forward once more.
        cuts = _cuts(rows, means)
        parts = [torch.logsumexp(_joint(rows[cut], shares, means, lower)[0], dim=1) for cut in cuts]
        return torch.cat(parts).reshape(x.shape[:-1])
    found: Tensor = _LogProb.apply(rows, shares, means, lower)  # type: ignore[no-untyped-call]
    return found.reshape(x.shape[:-1])


def _forward_levels() -> int:
    """How many forward derivatives of torch.func are being taken, one within the other."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        return 0
    from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters

    kinds = [interpreter.key() for interpreter in retrieve_all_functorch_interpreters()]
    return kinds.count(torch._C._functorch.TransformType.Jvp)


def _check(x: Tensor, weights: Tensor, means: Tensor, scale_tril: Tensor) -> None:
    """Raise an error that says what is wrong with an argument."""
    named = {"x": x, "weights": weights, "means": means, "scale_tril": scale_tril}
    for name, tensor in named.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(tensor).__name__}")
        if tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} is {tensor.dtype}: use torch.float32 or torch.float64")
    if len({tensor.dtype for tensor in named.values()}) > 1:
        raise TypeError(f"types differ: {', '.join(f'{name} is {t.dtype}' for name, t in named.items())}")
    if len({tensor.device for tensor in named.values()}) > 1:
        raise TypeError(
            f"devices differ: {', '.join(f'{name} is on {t.device}' for name, t in named.items())}"
        )
    if means.ndim != 2 or 0 in means.shape:
        raise ValueError(f"means must have shape (K, D), got {tuple(means.shape)}")
    K, D = means.shape
    for name, shape in (("weights", (K,)), ("scale_tril", (K, D, D))):
        if tuple(named[name].shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(named[name].shape)}")
    if not x.ndim or x.shape[-1] != D:
        raise ValueError(f"x must have shape (..., {D}), got {tuple(x.shape)}")
    if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in named.values()):
        return  # inside of a transform such as vmap the values cannot be looked at
    w, L = weights.detach(), scale_tril.detach()
    if not bool((w > 0).all()) or abs(float(w.sum()) - 1.0) > _OFF:
        raise ValueError(f"weights must be positive and sum to 1; they are {w.tolist()}")
    if not bool(torch.isfinite(L).all()):
        raise ValueError("scale_tril contains NaN or infinity")
    if bool((L.triu(1) != 0).any()):
        raise ValueError("scale_tril has numbers above its diagonal: it must hold lower triangles")
    if not bool((L.diagonal(dim1=-2, dim2=-1) > 0).all()):
        raise ValueError("scale_tril must have a positive diagonal")


# ---------------------------------------------------------------------- the kernels


def _host(tensor: Tensor) -> Float:
    return tensor.detach().cpu().numpy().astype(np.float64)


def _parametric(weights: Tensor, means: Tensor, L: Tensor) -> ParametricMixture:
    w, m, roots = _host(weights), _host(means), _host(L)
    theta = [np.log(w[:-1] / w[-1]), m.ravel(), packed_scales("triangle", roots).ravel()]
    return ParametricMixture(len(w), 0, m.shape[1], "triangle", np.concatenate(theta))


def _rows(x: Tensor) -> Any:
    """The rows where their memory is: a NumPy view, or the tensor itself on a CUDA device."""
    return x.detach() if x.is_cuda else x.detach().cpu().numpy()


def _like(array: Float, x: Tensor) -> Tensor:
    return torch.as_tensor(array, dtype=x.dtype, device=x.device)


def _values(x: Tensor, weights: Tensor, means: Tensor, L: Tensor) -> Tensor:
    """Log-densities (N,), by kernels on the tensors' device."""
    if not len(x):
        return x.new_zeros(0)
    table = Table.of(backends.for_rows(_rows(x)).doubled(), _rows(x))
    m = _parametric(weights, means, L)
    joint: Joint = m.joint(table.pivot)
    return _like(table.posterior(joint), x)


def _gradients(
    x: Tensor, weights: Tensor, means: Tensor, L: Tensor, cotangent: Tensor, of_x: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the sum of the log-densities times the cotangents (N,), by kernels."""
    m, g = _parametric(weights, means, L), _host(cotangent)
    K, D = means.shape
    mass, theta = np.zeros(K), np.zeros(m.size)
    backend = backends.for_rows(_rows(x)).doubled()
    for sign in (1.0, -1.0):  # moments take weights that are not negative
        part = np.maximum(sign * g, 0.0)
        if part.any():
            complete = CompleteData.of(m, Table.of(backend, _rows(x), part))
            mass += sign * complete.mass
            theta += sign * complete.gradient(m)
    of_scale = theta[m.gate_size + m.coefficient_size :].reshape(K, -1).copy()
    of_scale[:, diagonal_places(D)] /= m.deviations  # by L itself, not by the logarithms of its diagonal
    lower = np.zeros((K, D, D))
    i, j = np.tril_indices(D)
    lower[:, i, j] = of_scale
    rows = np.zeros((len(g), D))
    if of_x and len(g):
        found = backend.derivatives().adjoints(m, Rows(_host(x)), gradient=True).gradient
        assert found is not None
        rows = np.where(g[:, None] != 0.0, found * g[:, None], 0.0)
    of_means = theta[m.gate_size : m.gate_size + m.coefficient_size].reshape(K, D)
    of_weights = mass / _host(weights)
    return (_like(rows, x), _like(of_weights, x), _like(of_means, x), _like(lower, x))


# ---------------------------------------------------------------------- torch's own formulas


def _joint(x: Tensor, weights: Tensor, means: Tensor, L: Tensor) -> tuple[Tensor, Tensor]:
    """``log w_k + log p_k(x_i)`` (n, K), and ``z = L^-1 (x - m)`` (n, K, D)."""
    away = x[:, None, :] - means
    z = torch.linalg.solve_triangular(L, away.permute(1, 2, 0), upper=False).permute(2, 0, 1)
    log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    norm = 0.5 * means.shape[1] * _LOG_TWO_PI
    return weights.log() - log_det - norm - 0.5 * z.square().sum(-1), z


def _cuts(x: Tensor, means: Tensor) -> list[slice]:
    size = max(_HELD // means.numel(), 16)
    return [slice(start, start + size) for start in range(0, max(len(x), 1), size)]


def _formula_gradients(
    x: Tensor, weights: Tensor, means: Tensor, L: Tensor, cotangent: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What :func:`_gradients` computes, as torch operations that can be differentiated again.

    With r the responsibilities times the cotangents and L' u = z: ``-sum_k r_k u_k`` by x, ``sum_i r_ik / w_k`` by w,
    ``sum_i r_ik u_ik`` by m, ``sum_i r_ik (u_ik z_ik' - diag(1 / L))`` by L.
    """
    of_x: list[Tensor] = []
    sums: Any = None
    for cut in _cuts(x, means):
        joint, z = _joint(x[cut], weights, means, L)
        r = torch.softmax(joint, dim=1) * cotangent[cut, None]
        u = torch.linalg.solve_triangular(L.mT, z.permute(1, 2, 0), upper=True).permute(2, 0, 1)
        ru = r[:, :, None] * u
        of_x.append(-ru.sum(1))
        parts = (r.sum(0), ru.sum(0), torch.einsum("nki,nkj->kij", ru, z))
        sums = parts if sums is None else tuple(a + b for a, b in zip(sums, parts, strict=True))
    assert sums is not None
    mass, of_means, outer = sums
    reciprocals = torch.diag_embed(mass[:, None] / L.diagonal(dim1=-2, dim2=-1))
    return torch.cat(of_x), mass / weights, of_means, (outer - reciprocals).tril()


def _formula_tangent(x: Tensor, weights: Tensor, means: Tensor, L: Tensor, tangents: Any) -> Tensor:
    """Derivatives (N,) of the log-densities along tangents of all four, as torch operations."""
    dx, dw, dm, dL = tangents
    along = []
    for cut in _cuts(x, means):
        joint, z = _joint(x[cut], weights, means, L)
        r = torch.softmax(joint, dim=1)
        u = torch.linalg.solve_triangular(L.mT, z.permute(1, 2, 0), upper=True).permute(2, 0, 1)
        each = torch.zeros_like(joint)
        if dx is not None:
            each = each - (u * dx[cut, None]).sum(-1)
        if dw is not None:
            each = each + dw / weights
        if dm is not None:
            each = each + (u * dm).sum(-1)
        if dL is not None:
            each = each + torch.einsum("nki,kij,nkj->nk", u, dL.tril(), z)
            each = each - (dL.diagonal(dim1=-2, dim2=-1) / L.diagonal(dim1=-2, dim2=-1)).sum(-1)
        along.append((r * each).sum(1))
    return torch.cat(along)


def _formula_gradients_tangent(inputs: Any, tangents: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Derivatives of :func:`_formula_gradients` along tangents of its five arguments, as torch operations.

    ``dz = L^-1 (dx - dm - dL z)``, ``du = L^-T (dz - dL' u)``, ``dj = dw / w - sum_i dL_ii / L_ii - z . dz``, and
    with p the responsibilities ``dp = p (dj - sum_k p_k dj_k)``.
    """
    x, weights, means, L, cotangent = inputs
    dx, dw, dm, dL, dg = tangents
    dL = dL.tril()
    diagonal, d_diagonal = L.diagonal(dim1=-2, dim2=-1), dL.diagonal(dim1=-2, dim2=-1)
    of_x: list[Tensor] = []
    sums: Any = None
    for cut in _cuts(x, means):
        joint, z = _joint(x[cut], weights, means, L)
        p, g = torch.softmax(joint, dim=1), cotangent[cut, None]
        u = torch.linalg.solve_triangular(L.mT, z.permute(1, 2, 0), upper=True).permute(2, 0, 1)
        moved = dx[cut, None, :] - dm - torch.einsum("kij,nkj->nki", dL, z)
        dz = torch.linalg.solve_triangular(L, moved.permute(1, 2, 0), upper=False).permute(2, 0, 1)
        pulled = dz - torch.einsum("kji,nkj->nki", dL, u)
        du = torch.linalg.solve_triangular(L.mT, pulled.permute(1, 2, 0), upper=True).permute(2, 0, 1)
        dj = dw / weights - (d_diagonal / diagonal).sum(-1) - (z * dz).sum(-1)
        r, dr = p * g, p * (dj - (p * dj).sum(1, keepdim=True)) * g + p * dg[cut, None]
        d_ru = dr[:, :, None] * u + r[:, :, None] * du
        of_x.append(-d_ru.sum(1))
        outer = torch.einsum("nki,nkj->kij", d_ru, z) + torch.einsum("nk,nki,nkj->kij", r, u, dz)
        parts = (r.sum(0), dr.sum(0), d_ru.sum(0), outer)
        sums = parts if sums is None else tuple(a + b for a, b in zip(sums, parts, strict=True))
    assert sums is not None
    mass, d_mass, of_means, outer = sums
    reciprocals = d_mass[:, None] / diagonal - mass[:, None] * d_diagonal / diagonal**2
    of_weights = d_mass / weights - mass * dw / weights**2
    return torch.cat(of_x), of_weights, of_means, (outer - torch.diag_embed(reciprocals)).tril()


class _LogProb(torch.autograd.Function):
    """The log-densities: value by kernels, gradient by :class:`_Gradient`."""

    @staticmethod
    def forward(x: Tensor, weights: Tensor, means: Tensor, L: Tensor) -> Tensor:
        return _values(x, weights, means, L)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        found = _Gradient.apply(  # type: ignore[no-untyped-call]
            *ctx.saved_tensors, cotangent, ctx.needs_input_grad[0]
        )
        return tuple(g if needed else None for g, needed in zip(found, ctx.needs_input_grad, strict=True))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, weights, means, L = ctx.saved_tensors
        return _formula_tangent(x, weights, means, L, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return _mapped(_LogProb, info, in_dims, inputs)


class _Gradient(torch.autograd.Function):
    """The gradients of the log-densities' weighted sum: by kernels, and their own derivatives by torch."""

    @staticmethod
    def forward(x: Tensor, weights: Tensor, means: Tensor, L: Tensor, cotangent: Tensor, of_x: bool) -> Any:
        return _gradients(x, weights, means, L, cotangent, of_x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[:5])
        ctx.save_for_forward(*inputs[:5])

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        with torch.enable_grad():
            pulled = torch.func.vjp(_formula_gradients, *ctx.saved_tensors)
            return (*pulled[1](cotangents), None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        inputs = ctx.saved_tensors
        given = tuple(
            torch.zeros_like(value) if tangent is None else tangent
            for value, tangent in zip(inputs, tangents[:5], strict=True)
        )
        return _formula_gradients_tangent(inputs, given)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return _mapped(_Gradient, info, in_dims, inputs)


def _mapped(function: Any, info: Any, in_dims: Any, inputs: Any) -> Any:
    """A batch of calls, one after the other."""
    answers = []
    for i in range(info.batch_size):
        one = (a if d is None else a.select(d, i) for a, d in zip(inputs, in_dims, strict=True))
        answers.append(function.apply(*one))
    if isinstance(answers[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*answers, strict=True)), (0,) * len(answers[0])
    return torch.stack(answers), 0


# ---------------------------------------------------------------------- modules and distributions


class GaussianMixtureLayer(torch.nn.Module):
    """A Gaussian mixture as a module: its forward pass is the log-density of rows.

    Its parameters may take any value: ``logits`` (K,), whose softmax are the weights; ``means`` (K, D); ``scales``
    (K, D, D), of which the part below the diagonal is that of L and the diagonal holds the logarithms of L's.

    Parameters
    ----------
    n_components : int
        K.
    n_features : int
        D.
    dtype : torch.dtype, default=torch.float64
    device : torch.device, optional

    Examples
    --------
    >>> import torch
    >>> from mixtura.torch import GaussianMixtureLayer
    >>> layer = GaussianMixtureLayer(2, 3)
    >>> layer(torch.zeros(5, 3, dtype=torch.float64)).shape
    torch.Size([5])
    """

    def __init__(
        self, n_components: int, n_features: int, dtype: torch.dtype = torch.float64, device: Any = None
    ) -> None:
        super().__init__()
        like = {"dtype": dtype, "device": device}
        self.logits = torch.nn.Parameter(torch.zeros(n_components, **like))
        self.means = torch.nn.Parameter(torch.randn(n_components, n_features, **like))
        self.scales = torch.nn.Parameter(torch.zeros(n_components, n_features, n_features, **like))

    @classmethod
    def from_estimator(cls, estimator: Any, dtype: torch.dtype = torch.float64) -> GaussianMixtureLayer:
        """The layer of a fitted :class:`mixtura.GaussianMixture` or a :class:`mixtura.distributions.Mixture`."""
        mixture = estimator if isinstance(estimator, Mixture) else Mixture.from_estimator(estimator)
        least = torch.finfo(dtype).tiny
        K, D = mixture.means.shape
        layer = cls(K, D, dtype)
        scales = np.array(mixture.choleskys)
        diagonal = np.arange(D)
        scales[:, diagonal, diagonal] = np.log(scales[:, diagonal, diagonal])
        with torch.no_grad():
            for parameter, values in (
                (layer.logits, np.log(np.maximum(mixture.weights, least))),
                (layer.means, mixture.means),
                (layer.scales, scales),
            ):
                parameter.copy_(torch.as_tensor(np.array(values)))
        return layer

    @property
    def weights(self) -> Tensor:
        """Weights, (K,)."""
        # A weight that underflows stays positive: its logarithm is taken.
        return torch.softmax(self.logits, dim=0).clamp_min(torch.finfo(self.logits.dtype).tiny)

    @property
    def scale_tril(self) -> Tensor:
        """L, (K, D, D)."""
        diagonal = self.scales.diagonal(dim1=-2, dim2=-1).exp()
        return self.scales.tril(-1) + torch.diag_embed(diagonal)

    def forward(self, x: Tensor) -> Tensor:
        """Log-densities of rows (..., D)."""
        return log_prob(x, self.weights, self.means, self.scale_tril)

    def to_mixture(self) -> Mixture:
        """The layer's mixture as a :class:`mixtura.distributions.Mixture`."""
        weights = _host(self.weights)
        return Mixture.of_choleskys(weights / weights.sum(), _host(self.means), _host(self.scale_tril))

    def to_estimator(self, X: Any = None) -> GaussianMixture:
        """A :class:`mixtura.GaussianMixture` that starts from the layer's parameters.

        Parameters
        ----------
        X : array-like of shape (N, D), default=None
            If given, the estimator is fitted to it without iterations, so that it can predict.
        """
        mixture = self.to_mixture()
        inverse = np.linalg.inv(mixture.choleskys)
        estimator = GaussianMixture(
            mixture.n_components,
            weights_init=mixture.weights,
            means_init=mixture.means,
            precisions_init=np.swapaxes(inverse, 1, 2) @ inverse,
            max_iter=0 if X is not None else 100,
        )
        return estimator if X is None else estimator.fit(X)


def to_distribution(model: Any) -> Any:
    """A ``torch.distributions.MixtureSameFamily`` of a fitted model, a ``distributions.Mixture`` or a layer.

    Examples
    --------
    >>> from mixtura.distributions import Mixture
    >>> from mixtura.torch import from_distribution, to_distribution
    >>> mixture = Mixture([0.25, 0.75], [0.0, 4.0], [1.0, 4.0])
    >>> from_distribution(to_distribution(mixture)) == mixture
    True
    """
    if isinstance(model, GaussianMixtureLayer):
        of = torch.distributions
        components = of.MultivariateNormal(model.means, scale_tril=model.scale_tril)
        return of.MixtureSameFamily(of.Categorical(logits=model.logits), components)
    mixture = model if isinstance(model, Mixture) else Mixture.from_estimator(model)
    return mixture.to_torch()


def from_distribution(distribution: Any) -> Mixture:
    """The mixture that a ``torch.distributions.MixtureSameFamily`` of Gaussians describes.

    Parameters
    ----------
    distribution : MixtureSameFamily
        Its components are Normal, MultivariateNormal, or Independent of Normal; without batch dimensions.

    Raises
    ------
    TypeError
        It is another distribution.
    ValueError
        It has batch dimensions.
    """
    of = torch.distributions
    if not isinstance(distribution, of.MixtureSameFamily):
        raise TypeError(f"a MixtureSameFamily is needed, got {type(distribution).__name__}")
    if len(distribution.batch_shape):
        raise ValueError(
            f"the distribution is a batch of shape {tuple(distribution.batch_shape)}: take one of it"
        )
    weights, components = _host(distribution.mixture_distribution.probs), distribution.component_distribution
    if isinstance(components, of.MultivariateNormal):
        means, roots = _host(components.mean), _host(components.scale_tril)
    elif isinstance(components, of.Normal):
        means, roots = _host(components.mean)[:, None], _host(components.stddev)[:, None, None]
    elif isinstance(components, of.Independent) and isinstance(components.base_dist, of.Normal):
        means, deviations = _host(components.mean), _host(components.stddev)
        roots = deviations[:, :, None] * np.eye(means.shape[1])
    else:
        raise TypeError(f"components must be Gaussian, got {type(components).__name__}")
    return Mixture.of_choleskys(
        weights / weights.sum(), means, np.broadcast_to(roots, (*means.shape, means.shape[1]))
    )
