"""Fits that are killed at random moments and go on from their checkpoints, to the same bits as fits that are not.

    python benchmarks/kills.py --kills 300

Each fit runs in a process of its own, which gets SIGKILL after a random part of the time that the fit takes, and is
started again with the same checkpoint until it ends. Every model is then compared with that of an uninterrupted fit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from mixtura import GaussianMixture, KMeans, MixtureOfExperts


def drawn(rows, components, columns):
    rng = np.random.default_rng(components)
    means = 2.0 * rng.normal(size=(components, columns))
    return means[rng.integers(0, components, rows)] + rng.normal(size=(rows, columns))


def regressions(rows):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(rows, 3)), rng.integers(0, 3, rows)
    return x, np.einsum("nd,nd->n", x, rng.normal(size=(3, 3))[z]) + 0.5 * rng.normal(size=rows)


# A fit through levels of growing samples, one with restarts, one of each kind of covariance, k-means, and the other
# ways to run EM: accelerated, stepwise, of experts.
FITS = {
    "levels": (lambda: GaussianMixture(12, random_state=3, tol=1e-6), [drawn(200_000, 12, 8)]),
    "restarts": (lambda: GaussianMixture(6, random_state=1, n_init=6, tol=1e-6), [drawn(20_000, 6, 5)]),
    "tied": (
        lambda: GaussianMixture(8, covariance_type="tied", random_state=2, n_init=3, tol=1e-6),
        [drawn(60_000, 8, 6)],
    ),
    "diag": (
        lambda: GaussianMixture(8, covariance_type="diag", random_state=4, tol=1e-7),
        [drawn(100_000, 8, 6)],
    ),
    "k-means": (lambda: KMeans(20, random_state=5, n_init=5, tol=1e-6), [drawn(50_000, 20, 6)]),
    "squarem": (
        lambda: GaussianMixture(8, accelerate="squarem", random_state=6, tol=1e-8),
        [drawn(60_000, 8, 4)],
    ),
    "anderson": (
        lambda: GaussianMixture(8, accelerate="anderson", random_state=6, tol=1e-8),
        [drawn(60_000, 8, 4)],
    ),
    "stepwise": (
        lambda: GaussianMixture(5, algorithm="stepwise", random_state=7),
        [drawn(400_000, 5, 4)],
    ),
    "experts": (
        lambda: MixtureOfExperts(3, gate="softmax", random_state=8, n_init=3, tol=1e-8),
        regressions(40_000),
    ),
}


def bits(model):
    """The fitted parameters, and the course of the fit, as bytes."""
    if isinstance(model, KMeans):
        fitted = [model.cluster_centers_]
    elif isinstance(model, GaussianMixture):
        fitted = [model.weights_, model.means_, model.covariances_]
    else:
        fitted = [model.coef_, model.intercept_, model.noise_variance_]
    return b"".join(a.tobytes() for a in fitted) + repr((model.n_iter_, model.lower_bound_)).encode()


def started(name, checkpoint, answer):
    """A process that makes the fit and writes its bits to a file."""
    child = os.fork()
    if child:
        return child
    warnings.simplefilter("ignore")
    code = 1
    try:
        make, rows = FITS[name]
        with open(os.devnull, "w") as quiet:
            os.dup2(quiet.fileno(), 1)
        model = make().fit(*rows, checkpoint=checkpoint, every=0.0)
        answer.write_bytes(bits(model))
        code = 0
    finally:
        os._exit(code)


def uninterrupted(name, folder):
    """The bits of the fit, and the seconds that it takes."""
    answer = folder / "answer"
    began = time.perf_counter()
    _, status = os.waitpid(started(name, None, answer), 0)
    assert status == 0, f"{name} failed"
    return answer.read_bytes(), time.perf_counter() - began


def killed_until_it_ends(name, seconds, folder, rng, most):
    """How often the fit was killed, and the bits that it ended with; after ``most`` kills it is left in peace."""
    checkpoint, answer, kills = folder / "fit.checkpoint", folder / "answer", 0
    answer.unlink(missing_ok=True)
    checkpoint.unlink(missing_ok=True)
    while True:
        child = started(name, checkpoint, answer)
        if kills < most:
            time.sleep(rng.uniform(0.0, seconds))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return kills, answer.read_bytes()
        if os.WIFEXITED(status):
            raise SystemExit(f"{name}: the fit did not go on from its checkpoint after {kills} kills")
        kills += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, kills, ended, same, parts = random.Random(arguments.seed), 0, 0, 0, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = {fit: uninterrupted(fit, folder) for fit in FITS}
        while kills < arguments.kills:
            for fit, (want, seconds) in whole.items():
                done, got = killed_until_it_ends(fit, seconds, folder, rng, min(6, arguments.kills - kills))
                kills, ended, same = kills + done, ended + 1, same + (got == want)
                parts[fit] = parts.get(fit, 0) + done
    print(", ".join(f"{fit} {count}" for fit, count in parts.items()))
    print(f"{kills} kills in {ended} fits, all went on; {same} of {ended} ended with the same bits")
    if same < ended:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
