"""What becomes of an estimator whose fit fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])


def as_before_if_it_fails(method: Method) -> Method:
    """Decorate a method that changes an estimator: if it raises, the estimator is as it was."""

    @wraps(method)
    def changed(self: Any, *arguments: Any, **keywords: Any) -> Any:
        before = dict(vars(self))
        try:
            return method(self, *arguments, **keywords)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    return cast(Method, changed)
