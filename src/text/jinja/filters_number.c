/* filters_number.c - filters that make numbers, and default.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <math.h>

static j_value or_default(j_value v, j_value otherwise) {
    return v.kind == J_MISSING ? otherwise : v;
}

static j_value absolute(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    if (self.kind == J_FLOAT) return j_float(fabs(self.as.real));
    if (self.kind == J_BOOL) return j_int(self.as.truth);
    if (self.kind == J_INT) return self.as.integer < 0 ? j_negate(r, self) : self;
    if (self.kind == J_UNDEFINED) return j_fail_undefined(r, self);
    return j_fail(r, "bad operand type for abs(): '%s'", j_type_name(self));
}

/* int(x) of a float: fails when infinite or beyond 64 bits. */
static j_value truncated(j_run *r, double x) {
    int64_t i;
    if (j_int_of_float(x, &i)) return j_int(i);
    return j_fail(r, "cannot convert this float to an integer of 64 bits");
}

/* Text that is no number gives `default`, as do lists; a fraction is cut towards zero. */
static j_value to_int(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_value otherwise = or_default(a[0], j_int(0));
    const int64_t base = j_arg_int(r, a[1], 10);
    int64_t i;
    double x;
    if (r->failed) return j_none();
    switch ((int)self.kind) {
    case J_UNDEFINED: return j_fail_undefined(r, self);
    case J_BOOL: return j_int(self.as.truth);
    case J_INT: return self;
    case J_FLOAT: return isnan(self.as.real) ? otherwise : truncated(r, self.as.real);
    case J_TEXT: break;
    default: return otherwise;
    }
    if (base >= 0 && base <= 36 && j_read_int(self.as.text, (int)base, &i)) return j_int(i);
    if (!j_read_float(self.as.text, &x) || !isfinite(x)) return otherwise;
    return truncated(r, x);
}

static j_value to_float(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    double x;
    if (self.kind == J_UNDEFINED) return j_fail_undefined(r, self);
    if (j_is_number(self)) return j_float(j_as_float(self));
    if (self.kind == J_TEXT && j_read_float(self.as.text, &x)) return j_float(x);
    return or_default(a[0], j_float(0));
}

/* "common" rounds halves to even, as Python 3; the others by way of a power of ten. */
static j_value round_to(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const int64_t digits = j_arg_int(r, a[0], 0);
    const j_text *method = j_arg_text(r, a[1], "common");
    if (r->failed) return j_none();
    if (j_text_is(method, "common")) return j_round(r, self, digits);
    const bool ceiling = j_text_is(method, "ceil");
    if (!ceiling && !j_text_is(method, "floor")) {
        return j_fail(r, "method must be common, ceil or floor");
    }
    const j_value unit = j_power(r, j_int(10), j_int(digits));
    const j_value scaled = j_multiply(r, self, unit);
    if (r->failed) return j_none();
    if (!j_is_number(scaled)) return j_fail(r, "must be real number, not %s", j_type_name(self));
    if (scaled.kind != J_FLOAT) return j_divide(r, scaled, unit);
    const double x = scaled.as.real;
    return j_divide(r, truncated(r, ceiling ? ceil(x) : floor(x)), unit);
}

static j_value sum(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    j_value total = or_default(a[1], j_int(0));
    if (total.kind == J_TEXT) return j_fail(r, "sum() can't sum strings");
    j_iter *it = j_iter_new(r, self);
    for (j_value item; it && j_next(r, it, &item);) {
        total = j_add(r, total, j_lookup_path(r, item, a[0], j_missing()));
    }
    return total;
}

/* What is undefined becomes `default`; with boolean true, all that is false does. */
static j_value by_default(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const bool falsy = j_arg_truth(r, a[1], false) && !j_truth(r, self);
    if (self.kind != J_UNDEFINED && !falsy) return self;
    return a[0].kind == J_MISSING ? j_text_literal(r, "") : a[0];
}

const j_function j_filters_number[] = {
    {"abs", absolute, "", 0},
    {"d", by_default, "default_value boolean", 0},
    {"default", by_default, "default_value boolean", 0},
    {"float", to_float, "default", 0},
    {"int", to_int, "default base", 0},
    {"round", round_to, "precision method", 0},
    {"sum", sum, "attribute start", 0},
    {0},
};
