#!/usr/bin/env python3
"""fit_vmath.py - fits the polynomials of src/backend/cpu/vmath.h.

Prints them as C, the highest power first:

    exp2(f)   f in [-1/2, 1/2]                 relative error, constant term exactly 1
    exp(r)    r in [-ln2/2, ln2/2]             likewise
    tail(a)   (1 - Phi(a)) exp(a^2 / 2)        as a polynomial in t = 1 / (1 + a / 4), a >= 0

Minimax by iteratively reweighted least squares (Lawson) on Chebyshev points, in 50 digits.

SPDX-License-Identifier: MIT
"""

import mpmath as mp

mp.mp.dps = 50


def chebyshev(lo, hi, n):
    return [(lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]


def fit(f, basis, xs, rounds=60):
    """Coefficients c minimising max |sum c_k basis_k(x) / f(x) - 1| over xs."""
    weight = [mp.mpf(1)] * len(xs)
    target = [f(x) for x in xs]
    rows = [[b(x) / t for b in basis] for x, t in zip(xs, target)]
    for _ in range(rounds):
        a = mp.matrix([[mp.sqrt(w) * v for v in r] for w, r in zip(weight, rows)])
        c = mp.lu_solve(a, mp.matrix([mp.sqrt(w) for w in weight]))
        error = [abs(mp.fsum(ck * v for ck, v in zip(c, r)) - 1) for r in rows]
        total = mp.fsum(w * e for w, e in zip(weight, error))
        weight = [w * e / total * len(xs) for w, e in zip(weight, error)]
    return c, max(error)


def show(name, c, error):
    print(f"{name}: max relative error {mp.nstr(error, 3)}")
    for ck in reversed(list(c)):
        print(f"    {float(ck):.9e}f,")


def powers(lo, hi):
    return [lambda x, k=k: x**k for k in range(lo, hi + 1)]


def fit_exponential(name, f, bound, degree):
    """f(x) = 1 + x P(x): fits P relative to (f(x) - 1) / x, so weighted that f's error counts."""
    xs = chebyshev(-bound, bound, 120)
    weight = [mp.mpf(1)] * len(xs)
    rows = [[x**k / f(x) for k in range(1, degree + 1)] for x in xs]
    target = [(f(x) - 1) / f(x) for x in xs]
    for _ in range(60):
        a = mp.matrix([[mp.sqrt(w) * v for v in r] for w, r in zip(weight, rows)])
        c = mp.lu_solve(a, mp.matrix([mp.sqrt(w) * t for w, t in zip(weight, target)]))
        error = [abs(mp.fsum(ck * v for ck, v in zip(c, r)) - t) for r, t in zip(rows, target)]
        total = mp.fsum(w * e for w, e in zip(weight, error))
        weight = [w * e / total * len(xs) for w, e in zip(weight, error)]
    show(name, c, max(error))


def tail(t):
    if t == 0:
        return mp.mpf(0)
    a = 4 * (1 / t - 1)
    return mp.erfc(a / mp.sqrt(2)) / 2 * mp.exp(a * a / 2)


if __name__ == "__main__":
    fit_exponential("exp2, 1 + f P(f)", lambda x: mp.mpf(2) ** x, mp.mpf(1) / 2, 6)
    fit_exponential("exp, 1 + r P(r)", mp.exp, mp.log(2) / 2, 6)
    for degree in (8, 9, 10):
        ts = chebyshev(4 / mp.mpf(4 + 15), mp.mpf(1), 160)
        c, error = fit(tail, powers(0, degree), ts)
        show(f"tail, degree {degree}", c, error)
