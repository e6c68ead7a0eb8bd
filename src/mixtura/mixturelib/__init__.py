"""MixtureLib's names, thin over mixtura's experts and gates: torch tensors in and out.

Scripts written for MixtureLib run with ``from mixturelib.`` changed to ``from mixtura.mixturelib.``. What differs from
its release, and why, is in ``docs/mixturelib.md``. Shapes are its own: X (N, D), Y (N, 1), Z (N, K) or (N, 1).
"""
