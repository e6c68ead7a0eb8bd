"""Two planes in one cloud of rows: a mixture of regressions, then of experts, with MixtureLib's example data.

python examples/two_planes.py [--out out]
"""

import argparse
from pathlib import Path

import numpy as np

from mixtura import MixtureOfExperts
from mixtura.plotting import ExpertsDisplay

PLANES = np.array([[10.0, 0.0], [0.0, 30.0]])  # the slopes that the rows were drawn with
NOISE = 5.0


def draw(rows: int = 200, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """Half of the rows on each plane; each half is narrower in the direction that its plane is flat in."""
    rng = np.random.RandomState(seed)
    X = rng.randn(rows, 2)
    half = rows // 2
    X[:half, 1] *= 0.8
    X[half:, 0] *= 0.8
    exact = np.concatenate([X[:half] @ PLANES[0], X[half:] @ PLANES[1]])
    return X, exact + NOISE * rng.randn(rows, 1)[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    X, y = draw()
    print("how many planes?")
    for k in range(1, 5):
        model = MixtureOfExperts(k, fit_intercept=False, n_init=5, random_state=0).fit(X, y)
        print(f"  {k}: BIC {model.bic(X, y):.1f}")
    for gate in ("constant", "softmax"):
        model = MixtureOfExperts(
            2, gate=gate, noise="per-expert", fit_intercept=False, n_init=5, random_state=0
        ).fit(X, y)
        print(f"\n{model.summary()}")
        print(f"log-likelihood {model.score_samples(X, y).sum():.5f}; slopes of the truth {PLANES.tolist()}")
        picture = out / f"two-planes-{gate}.png"
        ExpertsDisplay.from_estimator(model, X, y).figure_.savefig(picture, dpi=120)
        print(f"wrote {picture}")


if __name__ == "__main__":
    main()
