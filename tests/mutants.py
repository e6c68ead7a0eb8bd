"""Do the tests notice? Random one-token changes of the host half, each run against the tests of its module, and against
the answers on record.

pip install cosmic-ray
python tests/mutants.py [--sample 100] [--seed 0] [--workers 2] [--only gates] [--report FILE]

cosmic-ray knows what can be changed: operators, comparisons, numbers, loops, conditions. A mutant is caught if the
tests fail, where the one that failed passes without the change, or take ten times as long. Left out are annotations,
which nothing executes, module-level constants in capitals, of which most set a speed and no result, what only words an
error, and the star before keyword-only parameters, which it takes for a product. Mutants are drawn with equal chances
from all of them; the same seed draws the same. The last line is the share that was caught; the exit status says
whether that is at least --least.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "mixtura"

# Modules of the host half, and the tests that are theirs.
TESTS = {
    "accelerated.py": [
        "test_accelerated.py",
        "test_em.py",
        "test_gaussian_mixture.py",
        "test_experts_ends.py",
    ],
    "array_kinds.py": ["test_array_kinds.py"],
    "autodiff/functions.py": ["test_autodiff.py"],
    "autodiff/own_functions.py": ["test_autodiff.py"],
    "autodiff/parameters.py": ["test_autodiff.py"],
    "backends/clustering.py": ["test_clustering.py"],
    "backends/derivatives.py": ["test_autodiff.py"],
    "backends/native_clustering.py": ["test_clustering.py"],
    "best_step.py": ["test_best_step.py", "test_em.py", "test_gaussian_mixture.py", "test_experts_ends.py"],
    "cancellation.py": [
        "test_cancellation.py",
        "test_moments.py",
        "test_table.py",
        "test_gaussian_mixture.py",
    ],
    "checkpoints.py": ["test_checkpoints.py"],
    "choosing.py": ["test_cli.py"],
    "cli/arguments.py": ["test_cli.py"],
    "cli/fitting.py": ["test_cli.py"],
    "cli/groups.py": ["test_cli.py", "test_many.py"],
    "cli/predicting.py": ["test_cli.py"],
    "cli/tables.py": ["test_cli.py", "test_many.py"],
    "complete_data.py": ["test_uncertainty.py", "test_autodiff.py"],
    "components/bayesian.py": ["test_bayesian.py"],
    "components/beside.py": ["test_extension.py"],
    "components/centers.py": ["test_kmeans.py", "test_table.py"],
    "components/covariances.py": ["test_gaussian_mixture.py", "test_families.py", "test_extension.py"],
    "components/estimation.py": ["test_known.py", "test_gaussian_mixture.py"],
    "components/families.py": ["test_families.py"],
    "components/gaussian.py": ["test_gaussian_mixture.py", "test_known.py", "test_families.py"],
    "components/linear.py": ["test_mixture_of_experts.py", "test_experts_ends.py", "test_autodiff.py"],
    "components/normal_equations.py": [
        "test_normal_equations.py",
        "test_mixture_of_experts.py",
        "test_mixturelib.py",
    ],
    "components/precisions.py": ["test_bayesian.py"],
    "components/priors.py": ["test_mixture_of_experts.py"],
    "components/storage.py": [
        "test_gaussian_mixture.py",
        "test_extension.py",
        "test_autodiff.py",
        "test_known.py",
    ],
    "components/uniform.py": ["test_noise.py"],
    "data/files.py": ["test_data.py"],
    "data/headers.py": ["test_headers.py"],
    "data/sources.py": ["test_sources.py"],
    "density.py": ["test_density.py"],
    "distributed.py": ["test_dask.py"],
    "distributions/batch.py": ["test_distributions.py"],
    "distributions/estimates.py": ["test_distributions.py"],
    "distributions/mixture.py": ["test_distributions.py", "test_autodiff.py"],
    "distributions/modes.py": ["test_distributions.py"],
    "distributions/univariate.py": ["test_distributions.py"],
    "dual.py": ["test_dual.py"],
    "em.py": ["test_em.py"],
    "estimators/asked.py": [
        "test_gaussian_mixture.py",
        "test_known.py",
        "test_families.py",
        "test_selecting.py",
    ],
    "estimators/base.py": [
        "test_gaussian_mixture.py",
        "test_kmeans.py",
        "test_online.py",
        "test_progress.py",
    ],
    "estimators/bayesian_mixture.py": ["test_bayesian.py"],
    "estimators/classifier.py": ["test_classifier.py"],
    "estimators/expert_search.py": ["test_mixture_of_experts.py", "test_experts_ends.py"],
    "estimators/fitted_gaussians.py": [
        "test_gaussian_mixture.py",
        "test_persistence.py",
        "test_interop.py",
        "test_noise.py",
    ],
    "estimators/fitted_experts.py": ["test_mixture_of_experts.py", "test_persistence.py"],
    "estimators/gaussian_mixture.py": [
        "test_gaussian_mixture.py",
        "test_extension.py",
        "test_persistence.py",
        "test_known.py",
        "test_families.py",
    ],
    "estimators/gaussian_search.py": [
        "test_gaussian_mixture.py",
        "test_known.py",
        "test_noise.py",
        "test_starts.py",
    ],
    "estimators/kmeans.py": ["test_kmeans.py", "test_persistence.py", "test_scikit_learn.py"],
    "estimators/known.py": ["test_known.py"],
    "estimators/mixture_of_experts.py": [
        "test_mixture_of_experts.py",
        "test_persistence.py",
        "test_experts_ends.py",
    ],
    "estimators/selector.py": ["test_selecting.py"],
    "estimators/validation.py": [
        "test_validation.py",
        "test_gaussian_mixture.py",
        "test_mixture_of_experts.py",
    ],
    "expansion.py": ["test_expansion.py", "test_online.py"],
    "extension.py": ["test_extension.py"],
    "factorize.py": ["test_gaussian_mixture.py", "test_threads.py", "test_known.py"],
    "found.py": ["test_table.py", "test_mixture_of_experts.py"],
    "gates/base.py": ["test_gates.py"],
    "gates/constant.py": ["test_gates.py", "test_autodiff.py", "test_known.py"],
    "gates/dirichlet.py": ["test_gates.py", "test_mixture_of_experts.py"],
    "gates/equal.py": ["test_gates.py"],
    "gates/gaussian.py": ["test_gates.py"],
    "gates/neural.py": ["test_gates.py", "test_mixture_of_experts.py"],
    "gates/quasi_newton.py": ["test_quasi_newton.py", "test_gates.py"],
    "gates/softmax.py": ["test_gates.py"],
    "gates/sparse.py": ["test_gates.py", "test_mixture_of_experts.py"],
    "gates/sticks.py": ["test_bayesian.py"],
    "hierarchical.py": ["test_selecting.py", "test_plotting.py"],
    "interop/graph.py": ["test_interop.py"],
    "interop/scikit_learn.py": ["test_interop.py"],
    "joint.py": ["test_gates.py", "test_table.py", "test_conformance.py"],
    "layouts.py": ["test_moments.py", "test_table.py"],
    "levels.py": ["test_levels.py"],
    "likelihood_ratio.py": ["test_likelihood_ratio.py"],
    "links.py": ["test_links.py"],
    "lloyd.py": ["test_kmeans.py", "test_clustering.py"],
    "many.py": ["test_many.py"],
    "membership.py": ["test_known.py"],
    "merging.py": ["test_classifier.py"],
    "metrics.py": ["test_metrics.py", "test_starts.py", "test_gaussian_mixture.py"],
    "mixture.py": ["test_table.py", "test_mixture_of_experts.py"],
    "moments.py": ["test_moments.py", "test_table.py"],
    "natural.py": ["test_uncertainty.py", "test_online.py", "test_expansion.py"],
    "newton.py": ["test_newton.py", "test_families.py"],
    "online.py": ["test_online.py"],
    "parametric.py": ["test_autodiff.py", "test_uncertainty.py", "test_newton.py"],
    "parts.py": ["test_extension.py", "test_persistence.py"],
    "persistence.py": ["test_persistence.py"],
    "predictive.py": ["test_mixture_of_experts.py"],
    "randomness.py": ["test_starts.py", "test_kmeans.py"],
    "quadratics.py": ["test_quadratics.py"],
    "seeding.py": ["test_seeding.py", "test_kmeans.py"],
    "selecting.py": ["test_selecting.py"],
    "shrinking.py": ["test_known.py"],
    "starts.py": ["test_starts.py", "test_gaussian_mixture.py", "test_kmeans.py"],
    "starts_of_experts.py": ["test_mixture_of_experts.py", "test_experts_ends.py"],
    "streamed.py": ["test_sources.py", "test_dask.py"],
    "swaps.py": ["test_swaps.py"],
    "table.py": ["test_table.py", "test_gates.py", "test_clustering.py"],
    "triangles.py": ["test_triangles.py", "test_moments.py"],
    "uncertainty.py": ["test_uncertainty.py"],
    "components/surfaces.py": ["test_families.py"],
}

# Seeded fits over all of the package, whose answers are on record.
RECORDED = "test_recorded.py"

# Seconds after which tests that still run are timed without a change; only endless ones take so long.
PATIENCE = 900.0

# The test that failed, or the file that could not be read, in pytest's summary.
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    operator: str
    occurrence: int
    line: int


def lines_left_out(source: str) -> set[int]:
    """Lines of annotations alone, of constants in capitals, and of the words of errors."""
    found: set[int] = set()

    def add(node: ast.AST | None) -> None:
        if node is not None:
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))  # type: ignore[attr-defined]

    tree = ast.parse(source)
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [t.id for t in targets if isinstance(t, ast.Name)]
        names += [
            e.id for t in targets if isinstance(t, ast.Tuple) for e in t.elts if isinstance(e, ast.Name)
        ]
        if names and all(name.isupper() for name in names):
            add(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            add(node)
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            add(node)  # nothing executes it but a type checker
        elif isinstance(node, ast.FunctionDef):
            add(node.returns)
            for argument in (*node.args.args, *node.args.kwonlyargs):
                add(argument.annotation)
    return found


def mutants(module: str) -> Iterator[Mutant]:
    """All of a module."""
    source = (PACKAGE / module).read_text()
    lines = source.splitlines()
    out, nodes = lines_left_out(source), list(ast_nodes(get_ast(source)))
    for name in operator_names():
        if (
            "BitOr" in name or "Variable" in name
        ):  # unions of types; operators that need to be told of a variable
            continue
        operator = get_operator(name)()
        positions = [place for node in nodes for place in operator.mutation_positions(node)]
        for i, ((line, _), _) in enumerate(positions):
            if line not in out and lines[line - 1].strip() != "*,":
                yield Mutant(module, name, i, line)


class UnfairError(Exception):
    """A test fails without any change, so that it tells nothing of a mutant."""


class Copy:
    """A copy of the package to be changed, and the tests that run against it."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "src" / "mixtura"
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))

    def run(self, tests: list[str], timeout: float) -> str | None:
        """The output of tests of which one fails; None if all pass. TimeoutExpired if they take too long."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "not emulated",
            *tests,
        ]
        environment = {**os.environ, "PYTHONPATH": str(self.package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        return done.stdout if done.returncode else None


class Trial:
    """Mutants on a copy of the package, and what fails there, on one without a change."""

    def __init__(self, folder: Path) -> None:
        self.changed, self.whole = Copy(folder / "changed"), Copy(folder / "whole")
        self.times: dict[str, float] = {}  # of all tests of a module, without a change

    def survives(self, mutant: Mutant) -> bool:
        """Whether the tests pass on a mutant."""
        path = self.changed.package / mutant.module
        source = path.read_text()
        changed = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
        if changed is None or changed == source:
            raise ValueError(f"{mutant} changes nothing")
        tests = [f"tests/{name}" for name in (RECORDED, *TESTS[mutant.module])]
        try:
            path.write_text(changed)
            try:
                output = self.changed.run(tests, PATIENCE)
            except subprocess.TimeoutExpired:
                try:
                    output = self.changed.run(tests, 10.0 * self.time(mutant.module, tests))
                except subprocess.TimeoutExpired:
                    return False
        finally:
            path.write_text(source)
        if output is None:
            return True
        failed = FAILED.search(output)
        if failed and self.whole.run([failed.group(1)], 3600.0) is not None:
            raise UnfairError(f"{failed.group(1)} fails without any change")
        return False

    def time(self, module: str, tests: list[str]) -> float:
        """Seconds that the tests take without a change."""
        if module not in self.times:
            began = time.perf_counter()
            if self.whole.run(tests, 3600.0) is not None:
                raise UnfairError(f"{', '.join(tests)} fail without any change")
            self.times[module] = time.perf_counter() - began
        return self.times[module]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.92)
    parser.add_argument("--only", default="", help="modules whose path begins so")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    modules = [m for m in TESTS if m.startswith(options.only)]
    every = [mutant for module in modules for mutant in mutants(module)]
    drawn = random.Random(options.seed).sample(every, min(options.sample, len(every)))
    print(f"{len(every)} mutants of {len(modules)} modules, {len(drawn)} drawn", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        trials: Queue[Trial] = Queue()
        for i in range(options.workers):
            trials.put(Trial(Path(folder) / str(i)))

        def tried(mutant: Mutant) -> tuple[Mutant, bool]:
            trial = trials.get()
            try:
                survived = trial.survives(mutant)
            finally:
                trials.put(trial)
            print(f"{'SURVIVED' if survived else 'caught':9}{describe(mutant)}", flush=True)
            return mutant, survived

        with ThreadPoolExecutor(options.workers) as pool:
            results = list(pool.map(tried, drawn))

    survivors = [mutant for mutant, survived in results if survived]
    share = 1.0 - len(survivors) / len(results)
    text = [
        f"{describe(m)}\n    {source_line(m)}" for m in sorted(survivors, key=lambda m: (m.module, m.line))
    ]
    text.append(f"caught {len(results) - len(survivors)} of {len(results)}: {100.0 * share:.1f} %")
    print("\n" + "\n".join(text))
    if options.report:
        options.report.write_text("\n".join(text) + "\n")
    return 0 if share >= options.least else 1


def describe(mutant: Mutant) -> str:
    return f"{mutant.module}:{mutant.line} {mutant.operator.removeprefix('core/')} #{mutant.occurrence}"


def source_line(mutant: Mutant) -> str:
    return (PACKAGE / mutant.module).read_text().splitlines()[mutant.line - 1].strip()


if __name__ == "__main__":
    sys.exit(main())
