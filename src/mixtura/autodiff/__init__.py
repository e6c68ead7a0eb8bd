"""Derivatives: of the log-likelihoods of fitted mixtures, on the package's kernels, and of small functions of a user.

The log-likelihood of a fitted model is a function of one vector of parameters, :class:`Parameters`.
:func:`value_and_grad` and :func:`hessian` differentiate its sum over rows, :func:`jvp`, :func:`vjp` and
:func:`jacobian` each row's log-density, :func:`grad_x` and :func:`hessian_x` the log-density with respect to the row.

:class:`Dual`, :func:`derivative`, :func:`jacobian` and :func:`newton` differentiate a function of one's own.
"""

from mixtura.autodiff.functions import grad_x, hessian, hessian_x, jacobian, jvp, value_and_grad, vjp
from mixtura.autodiff.own_functions import derivative, newton
from mixtura.autodiff.parameters import Parameters
from mixtura.dual import Dual

__all__ = [
    "Dual",
    "Parameters",
    "derivative",
    "grad_x",
    "hessian",
    "hessian_x",
    "jacobian",
    "jvp",
    "newton",
    "value_and_grad",
    "vjp",
]
