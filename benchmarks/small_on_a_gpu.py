"""Every kernel of the CUDA backend once, on tables small enough for compute-sanitizer; held to the reference."""

import argparse

import numpy as np

from mixtura import backends
from mixtura.backends.reference import ReferenceBackend
from mixtura.components import COVARIANCES
from mixtura.factorize import inverse_choleskys
from mixtura.joint import Joint
from mixtura.quadratics import Quadratics


def factorise(moments) -> None:
    """What an M-step does with second moments on the device."""
    scatters, mass = moments.elsewhere("second"), moments.kept_mass()
    factors = scatters.factors(mass, 0.1)
    norms = factors.norms(scatters.diagonals, False)
    close = factors.norms(scatters.diagonals, True)
    want = np.swapaxes(inverse_choleskys(COVARIANCES["full"].estimated(moments, mass, 0.1, None)), 1, 2)
    found = factors.brought()
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-10 * np.abs(want).max())
    scaled = found * np.sqrt(scatters.diagonals)[:, None, :]
    exact = np.linalg.norm(scaled, 2, axis=(1, 2)) ** 2
    assert np.all(norms >= exact * (1 - 1e-9))
    np.testing.assert_allclose(close, np.abs(np.swapaxes(scaled, 1, 2) @ scaled).sum(2).max(1), rtol=1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--few", action="store_true", help="float32 and one shape alone, for tools that take long"
    )
    few = parser.parse_args().few
    rng = np.random.default_rng(0)
    kind = type(backends.create("cuda"))
    reference = ReferenceBackend()
    for dtype in (np.float32,) if few else (np.float32, np.float64):
        for form in ("scalar", "diagonal", "triangle", "rectangle"):
            for components, dims in ((70, 20),) if few else ((3, 5), (20, 18), (70, 20)):
                for shared in (False,) if few else (False, True):
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
                            if got.elsewhere("second") is not None:
                                factorise(got)
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
