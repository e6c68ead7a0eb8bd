"""Wealth and carbon dioxide of 28 countries in 1996: which follow which line, and how the gate tells.

Few rows, two lines: a mixture of regressions finds the countries whose emissions grow with their product, and those
where they do not. The gates tell how much of that can be known from wealth alone.

python examples/carbon_dioxide.py [--out out]

Data: Hurn, Justel and Robert (2003), Estimating mixtures of regressions, as distributed with R's mixtools (CO2data):
gross national product and CO2 emission per head.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from mixtura import MixtureOfExperts
from mixtura.plotting import ExpertsDisplay

DATA = Path(__file__).parents[1] / "data" / "co2.csv"


def read() -> tuple[np.ndarray, np.ndarray, list[str]]:
    with DATA.open() as file:
        rows = list(csv.DictReader(file))
    X = np.array([[float(r["GNP"])] for r in rows])
    return X, np.array([float(r["CO2"]) for r in rows]), [r["country"] for r in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    X, y, countries = read()
    for gate in ("constant", "softmax", "gaussian"):
        model = MixtureOfExperts(2, gate=gate, noise="per-expert", n_init=20, random_state=0).fit(X, y)
        growing = int(model.coef_[:, 0].argmax())
        sure = model.responsibilities(X, y)[:, growing] > 0.9
        print(f"\n{model.summary()}\nBIC {model.bic(X, y):.2f}")
        print("emissions grow with wealth in", " ".join(c for c, s in zip(countries, sure, strict=True) if s))
        picture = out / f"carbon-dioxide-{gate}.png"
        ExpertsDisplay.from_estimator(model, X, y, target="CO2").figure_.savefig(picture, dpi=120)
        print(f"wrote {picture}")


if __name__ == "__main__":
    main()
