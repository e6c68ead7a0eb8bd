"""Every kernel of the CUDA backend once, on tables small enough for compute-sanitizer; held to the reference."""

import numpy as np

from mixtura import backends
from mixtura.backends.reference import ReferenceBackend
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics


def main() -> None:
    rng = np.random.default_rng(0)
    kind = type(backends.create("cuda"))
    reference = ReferenceBackend()
    for dtype in (np.float32, np.float64):
        for form in ("scalar", "diagonal", "triangle", "rectangle"):
            for components, dims in ((3, 5), (20, 18), (70, 20)):
                for shared in (False, True):
                    n = 1 if shared else components
                    factors = {
                        "scalar": np.ones(n),
                        "diagonal": rng.uniform(0.5, 2.0, (n, dims)),
                        "triangle": np.tril(0.2 * rng.normal(size=(n, dims, dims)) + np.eye(dims)),
                        "rectangle": rng.normal(size=(n, dims + 2, dims)) / np.sqrt(dims),
                    }[form]
                    means = rng.normal(size=(components, dims))
                    q = Quadratics(form, np.zeros(components), means, factors)
                    X = rng.normal(size=(400, dims)).astype(dtype)
                    for precision in ("exact", "fast"):
                        for hard in (False, True):
                            backend = kind(precision=precision, tile_bytes=1 << 16, memory=0)
                            a = (Joint(q, np.zeros(components), hard), "full", np.zeros(dims))
                            got = backend.expect(backend.place(X), *a)
                            want = reference.expect(reference.place(X), *a)
                            tolerance = 1e-9 if dtype == np.float64 else 2e-3
                            np.testing.assert_allclose(
                                got.second, want.second, rtol=0, atol=tolerance * np.abs(want.second).max()
                            )
                    backend.log_joint(backend.place(X), Joint(q, rng.normal(size=(400, components))))
                    backend.assign(backend.place(X), Joint(q, np.zeros(components)))
                    backend.accumulate(
                        backend.place(X), rng.uniform(size=(400, components)), "trace", X[0] * 1.0
                    )
    print("every kernel ran, and agrees with the reference")


if __name__ == "__main__":
    main()
