/* vmath.h - exponentials and what activations are made of, on vectors of simd.h.
 *
 *   2^x = 2^n * P(x - n), e^x = 2^n * P(x - n ln 2)         n the nearest integer
 *   sigmoid(x) = 1 / (1 + e^-x)        from e^-|x|, so it neither overflows nor cancels
 *   x * Phi(x), Phi the normal distribution: the upper tail Q(a), a = |x|, is e^(-a^2/2) times a
 *   polynomial in 1 / (1 + a/4); so negative x keep their relative precision
 *
 * Relative errors, tested against double on every level: exp and exp2 2e-7, sigmoid 3e-7, phi
 * 6e-7; results below the normal floats are within a few denormal steps.  The polynomials come
 * from tools/fit_vmath.py.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/simd.h"

/* 1 + x (c[0] x^5 + ... + c[5]) */
WEIR_INLINE vf vm_poly6(vf x, const float c[6]) {
    vf p = vf_all(c[0]);
    for (int i = 1; i < 6; i++) p = vf_fma(p, x, vf_all(c[i]));
    return vf_fma(p, x, vf_all(1));
}

/* 2^x; NaN stays NaN, infinities go to 0 and infinity. */
WEIR_INLINE vf vm_exp2(vf x) {
    static const float c[6] = {1.535335854e-04f, 1.339887481e-03f, 9.618437374e-03f,
                               5.550332470e-02f, 2.402264791e-01f, 6.931472029e-01f};
    x = vf_min(vf_all(129), vf_max(vf_all(-151), x));
    const vf n = vf_round(x);
    return vf_scale(vm_poly6(vf_sub(x, n), c), n);
}

/* e^x, likewise. */
WEIR_INLINE vf vm_exp(vf x) {
    static const float c[6] = {1.384365047e-03f, 8.374155559e-03f, 4.166800211e-02f,
                               1.666643126e-01f, 4.999999421e-01f, 1.000000032e+00f};
    x = vf_min(vf_all(89.5f), vf_max(vf_all(-105), x));
    const vf n = vf_round(vf_mul(x, vf_all(1.44269504f)));
    /* ln 2 in two parts; n times the first, of 9 bits, is exact */
    vf r = vf_fnma(n, vf_all(0.693359375f), x);
    r = vf_fnma(n, vf_all(-2.12194440e-4f), r);
    return vf_scale(vm_poly6(r, c), n);
}

WEIR_INLINE vf vm_sigmoid(vf x) {
    const vf e = vm_exp(vf_sub(vf_zero(), vf_abs(x))), one = vf_all(1);
    return vf_div(vf_pick_less(x, vf_zero(), e, one), vf_add(one, e));
}

/* Phi(x) = (1 + erf(x / sqrt 2)) / 2 */
WEIR_INLINE vf vm_phi(vf x) {
    static const float c[10] = {3.291564042e-02f,  -1.906540275e-01f, 3.821892132e-01f,
                                -3.166069050e-01f, 2.906341242e-01f,  -1.302917576e-02f,
                                1.190478226e-01f,  9.535701826e-02f,  1.001645594e-01f,
                                -1.827896784e-05f};
    const vf a = vf_min(vf_all(15), vf_abs(x)), one = vf_all(1);
    const vf t = vf_div(one, vf_fma(a, vf_all(0.25f), one));
    vf p = vf_all(c[0]);
    for (int i = 1; i < 10; i++) p = vf_fma(p, t, vf_all(c[i]));
    /* what rounding a^2 loses would be magnified by the exponential: it is put back */
    const vf square = vf_mul(a, a), lost = vf_fnma(a, a, square);
    const vf e = vm_exp(vf_mul(square, vf_all(-0.5f)));
    const vf q = vf_mul(p, vf_fma(e, vf_mul(lost, vf_all(0.5f)), e));
    return vf_pick_less(x, vf_zero(), q, vf_sub(one, q));
}
