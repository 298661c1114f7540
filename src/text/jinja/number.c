/* number.c - arithmetic, and numbers to and from text, as Python has them.
 *
 * Integers are 64 bits here and unbounded in Python: a result that does not fit is a failure, never
 * a wrong number.  / is always a float; // and % round towards minus infinity; a float prints as
 * the shortest digits that read back as the same float.  + and * also join text and lists, % also
 * formats text.
 *
 * The C library is asked in the C locale (template.c sets it for the thread while a run lasts).
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/value.h"

#include "text/jinja/run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_whole(j_value v) {
    return v.kind == J_INT || v.kind == J_BOOL;
}

static int64_t whole(j_value v) {
    return v.kind == J_BOOL ? v.as.truth : v.as.integer;
}

static j_value too_large(j_run *r) {
    return j_fail(r, "an integer does not fit 64 bits");
}

static j_value unsupported(j_run *r, const char *op, j_value a, j_value b) {
    if (a.kind == J_UNDEFINED) return j_fail_undefined(r, a);
    if (b.kind == J_UNDEFINED) return j_fail_undefined(r, b);
    return j_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op, j_type_name(a),
                  j_type_name(b));
}

/* ---- overflow-checked integers */

static bool add_int(int64_t a, int64_t b, int64_t *sum) {
    if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b) return false;
    *sum = a + b;
    return true;
}

static bool multiply_int(int64_t a, int64_t b, int64_t *product) {
    if (a == 0 || b == 0) return *product = 0, true;
    if ((a == -1 && b == INT64_MIN) || (b == -1 && a == INT64_MIN)) return false;
    const int64_t p = (int64_t)((uint64_t)a * (uint64_t)b);
    *product = p;
    return p / b == a && !(p % b);
}

static int64_t floor_int(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

/* ---- the operators */

/* A list of n items in a room of its own, which starts with those of a. */
static j_list *roomy_copy(j_run *r, const j_list *a, int n) {
    int *used = j_alloc(r, 1, sizeof(*used));
    j_list *l = n < MAX_BYTES / 32 ? j_list_new(r, n < 16 ? n : 2 * n) : NULL;
    if (!l && !r->failed) j_fail(r, "a list is longer than %d items", MAX_BYTES / 32);
    if (!l || !used || !j_step(r, (size_t)a->n * sizeof(*a->items))) return NULL;
    if (a->n) memcpy(l->items, a->items, (size_t)a->n * sizeof(*a->items));
    *used = a->n;
    l->used = used;
    return l;
}

/* Linear for a list that is built item by item: a's room is used on when a is still its end. */
static j_value join_lists(j_run *r, j_value a, j_value b) {
    const j_list *left = a.as.list, *right = b.as.list;
    const bool fits = left->used && *left->used == left->n && left->capacity - left->n >= right->n;
    j_list *l = fits ? j_list_new(r, 0) : roomy_copy(r, left, left->n + right->n);
    if (!l || !j_step(r, (size_t)right->n * sizeof(*right->items))) return j_none();
    if (fits) *l = *left;
    if (right->n) memcpy(l->items + left->n, right->items, (size_t)right->n * sizeof(*l->items));
    l->n = left->n + right->n;
    *l->used = l->n;
    return a.kind == J_LIST ? j_list_value(l) : j_tuple_value(l);
}

static j_value join_texts(j_run *r, j_value a, j_value b) {
    const bool safe = a.as.text->safe || b.as.text->safe;
    if (!safe) return j_concat(r, a.as.text, b.as.text);
    a = j_escape(r, a);
    b = j_escape(r, b);
    if (r->failed) return a;
    return j_mark_safe(r, j_concat(r, a.as.text, b.as.text), true);
}

j_value j_add(j_run *r, j_value a, j_value b) {
    if (is_whole(a) && is_whole(b)) {
        int64_t sum;
        return add_int(whole(a), whole(b), &sum) ? j_int(sum) : too_large(r);
    }
    if (j_is_number(a) && j_is_number(b)) return j_float(j_as_float(a) + j_as_float(b));
    if (a.kind == J_TEXT && b.kind == J_TEXT) return join_texts(r, a, b);
    if (a.kind == b.kind && j_is_sequence(a)) return join_lists(r, a, b);
    if (a.kind == J_TEXT && b.kind != J_UNDEFINED) {
        return j_fail(r, "can only concatenate str (not \"%s\") to str", j_type_name(b));
    }
    return unsupported(r, "+", a, b);
}

j_value j_subtract(j_run *r, j_value a, j_value b) {
    if (is_whole(a) && is_whole(b)) {
        int64_t difference;
        if (whole(b) == INT64_MIN || !add_int(whole(a), -whole(b), &difference)) {
            return too_large(r);
        }
        return j_int(difference);
    }
    if (j_is_number(a) && j_is_number(b)) return j_float(j_as_float(a) - j_as_float(b));
    return unsupported(r, "-", a, b);
}

static j_value repeat_text(j_run *r, const j_text *t, int64_t times) {
    if (times > 0 && t->size > 0 && (size_t)times > MAX_OUTPUT / t->size) {
        return j_fail(r, "text is longer than %d MiB", MAX_OUTPUT >> 20);
    }
    j_builder b = {0};
    for (int64_t i = 0; i < times && t->size && !r->failed; i++) j_put_text(r, &b, t);
    return j_mark_safe(r, j_finish(r, &b), t->safe);
}

static j_value repeat_list(j_run *r, j_value v, int64_t times) {
    j_list *l = j_list_new(r, 0);
    for (int64_t i = 0; i < times && v.as.list->n && !r->failed; i++) {
        for (int k = 0; k < v.as.list->n; k++) j_push(r, l, v.as.list->items[k]);
    }
    return v.kind == J_LIST ? j_list_value(l) : j_tuple_value(l);
}

j_value j_multiply(j_run *r, j_value a, j_value b) {
    if (is_whole(a) && is_whole(b)) {
        int64_t product;
        return multiply_int(whole(a), whole(b), &product) ? j_int(product) : too_large(r);
    }
    if (j_is_number(a) && j_is_number(b)) return j_float(j_as_float(a) * j_as_float(b));
    if (is_whole(a)) {
        const j_value other = a;
        a = b;
        b = other;
    }
    if (is_whole(b) && a.kind == J_TEXT) return repeat_text(r, a.as.text, whole(b));
    if (is_whole(b) && j_is_sequence(a)) return repeat_list(r, a, whole(b));
    return unsupported(r, "*", a, b);
}

j_value j_divide(j_run *r, j_value a, j_value b) {
    if (!j_is_number(a) || !j_is_number(b)) return unsupported(r, "/", a, b);
    if (j_as_float(b) == 0) return j_fail(r, "division by zero");
    return j_float(j_as_float(a) / j_as_float(b));
}

/* Python's float % and //: the remainder has the sign of the divisor. */
static double float_modulo(double a, double b) {
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0)) m += b;
    return m == 0 ? copysign(0, b) : m;
}

static double float_floor(double a, double b) {
    double m = fmod(a, b), quotient = (a - m) / b;
    if (m != 0 && (m < 0) != (b < 0)) quotient -= 1;
    if (quotient == 0) return copysign(0, a / b);
    const double floored = floor(quotient);
    return quotient - floored > 0.5 ? floored + 1 : floored;
}

j_value j_floor_divide(j_run *r, j_value a, j_value b) {
    if (!j_is_number(a) || !j_is_number(b)) return unsupported(r, "//", a, b);
    if (j_as_float(b) == 0) return j_fail(r, "division by zero");
    if (a.kind == J_FLOAT || b.kind == J_FLOAT) {
        return j_float(float_floor(j_as_float(a), j_as_float(b)));
    }
    if (whole(b) == -1) return j_negate(r, j_int(whole(a)));
    return j_int(floor_int(whole(a), whole(b)));
}

j_value j_modulo(j_run *r, j_value a, j_value b) {
    if (a.kind == J_TEXT) return j_format_percent(r, a.as.text, b);
    if (!j_is_number(a) || !j_is_number(b)) return unsupported(r, "%", a, b);
    if (j_as_float(b) == 0) return j_fail(r, "division by zero");
    if (a.kind == J_FLOAT || b.kind == J_FLOAT) {
        return j_float(float_modulo(j_as_float(a), j_as_float(b)));
    }
    if (whole(b) == -1) return j_int(0);
    return j_int(whole(a) - floor_int(whole(a), whole(b)) * whole(b));
}

static j_value power_int(j_run *r, int64_t base, int64_t exponent) {
    int64_t result = 1;
    while (exponent > 0) {
        if (exponent & 1 && !multiply_int(result, base, &result)) return too_large(r);
        exponent >>= 1;
        if (exponent && !multiply_int(base, base, &base)) return too_large(r);
    }
    return j_int(result);
}

j_value j_power(j_run *r, j_value a, j_value b) {
    if (!j_is_number(a) || !j_is_number(b)) return unsupported(r, "**", a, b);
    if (is_whole(a) && is_whole(b) && whole(b) >= 0) return power_int(r, whole(a), whole(b));
    const double base = j_as_float(a), exponent = j_as_float(b);
    if (base == 0 && exponent < 0) return j_fail(r, "zero to a negative power");
    const double result = pow(base, exponent);
    if (isnan(result) && !isnan(base) && !isnan(exponent)) {
        return j_fail(r, "a power that is a complex number");
    }
    if (isinf(result) && !isinf(base) && !isinf(exponent)) {
        return j_fail(r, "a power that does not fit a float");
    }
    return j_float(result);
}

j_value j_negate(j_run *r, j_value a) {
    if (a.kind == J_FLOAT) return j_float(-a.as.real);
    if (is_whole(a)) return whole(a) == INT64_MIN ? too_large(r) : j_int(-whole(a));
    if (a.kind == J_UNDEFINED) return j_fail_undefined(r, a);
    return j_fail(r, "bad operand type for unary -: '%s'", j_type_name(a));
}

/* ---- to text */

void j_put_int(j_run *r, j_builder *b, int64_t i) {
    char text[24];
    const int n = snprintf(text, sizeof(text), "%" PRId64, i);
    j_put(r, b, text, (size_t)n);
}

/* Lays out digits d1 d2 ... times 10^(exponent - 1) as repr() does: 1.5, 100.0, 1e-05, 1.2e+16. */
static void lay_out(j_run *r, j_builder *b, const char *digits, int n, int exponent) {
    char text[16];
    if (exponent > 16 || exponent < -3) {
        j_put(r, b, digits, 1);
        if (n > 1) j_puts(r, b, ".");
        j_put(r, b, digits + 1, (size_t)n - 1);
        snprintf(text, sizeof(text), "e%c%02d", exponent > 0 ? '+' : '-', abs(exponent - 1));
        j_puts(r, b, text);
        return;
    }
    if (exponent <= 0) j_puts(r, b, "0.");
    for (int i = exponent; i < 0; i++) j_puts(r, b, "0");
    for (int i = 0; i < MAX_OF(n, exponent); i++) {
        if (i == exponent && i > 0) j_puts(r, b, ".");
        j_put(r, b, i < n ? &digits[i] : "0", 1);
    }
    if (exponent >= n) j_puts(r, b, ".0");
}

void j_put_float(j_run *r, j_builder *b, double x) {
    if (isnan(x)) {
        j_puts(r, b, "nan");
        return;
    }
    if (signbit(x)) j_puts(r, b, "-");
    x = fabs(x);
    if (isinf(x)) {
        j_puts(r, b, "inf");
        return;
    }
    char text[40], digits[20];
    for (int n = 1;; n++) {
        snprintf(text, sizeof(text), "%.*e", n - 1, x);
        if (n < 17 && strtod(text, NULL) != x) continue;
        digits[0] = text[0];
        if (n > 1) memcpy(digits + 1, text + 2, (size_t)n - 1); /* behind the point */
        const int exponent = atoi(strchr(text, 'e') + 1) + 1;
        lay_out(r, b, digits, n, x == 0 ? 1 : exponent);
        return;
    }
}

/* ---- from text */

/* Copies without surrounding space and underscores between digits; false when malformed. */
static bool clean(const j_text *t, char *out, size_t room, size_t *size) {
    size_t from = 0, to = t->size, n = 0;
    uint32_t c;
    while (from < to && j_is_space((unsigned char)t->data[from])) from++;
    while (to > from && j_is_space((unsigned char)t->data[to - 1])) to--;
    for (size_t i = from; i < to; i++) {
        c = (unsigned char)t->data[i];
        if (c >= 0x80) return false;
        if (c == '_') {
            /* between two digits only */
            if (i == from || i + 1 == to || t->data[i - 1] == '_' || t->data[i + 1] == '_' ||
                !j_is_word((unsigned char)t->data[i - 1]) ||
                !j_is_word((unsigned char)t->data[i + 1])) {
                return false;
            }
            continue;
        }
        if (n + 1 >= room) return false;
        out[n++] = (char)c;
    }
    out[n] = 0;
    *size = n;
    return n > 0;
}

static int digit_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'z') return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
    return 99;
}

bool j_read_int(const j_text *t, int base, int64_t *out) {
    char text[128];
    size_t size, i = 0;
    if ((base != 0 && base < 2) || base > 36 || !clean(t, text, sizeof(text), &size)) return false;
    const bool negative = text[0] == '-';
    if (text[0] == '-' || text[0] == '+') i++;
    const char mark = text[i] == '0' ? (char)(text[i + 1] | 32) : 0;
    const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked && (base == marked || base == 0)) {
        i += 2;
        base = marked;
    }
    if (base == 0) base = 10;
    if (i == size) return false;
    int64_t value = 0;
    for (; i < size; i++) {
        const int d = digit_value(text[i]);
        if (d >= base || !multiply_int(value, base, &value) || !add_int(value, -d, &value)) {
            return false;
        }
    }
    if (!negative && value == INT64_MIN) return false;
    *out = negative ? value : -value; /* gathered as a negative number, which reaches further */
    return true;
}

bool j_read_float(const j_text *t, double *out) {
    char text[512], *end;
    size_t size;
    if (!clean(t, text, sizeof(text), &size)) return false;
    for (size_t i = 0; i < size; i++) {
        /* strtod also takes hexadecimal and nan(...), Python does not */
        if (text[i] == 'x' || text[i] == 'X' || text[i] == '(') return false;
    }
    *out = strtod(text, &end);
    return end == text + size;
}

bool j_int_of_float(double x, int64_t *out) {
    if (!(x > -9223372036854775809.0 && x < 9223372036854775808.0)) return false;
    *out = (int64_t)x;
    return true;
}

j_value j_round(j_run *r, j_value v, int64_t digits) {
    if (!j_is_number(v)) {
        if (v.kind == J_UNDEFINED) return j_fail_undefined(r, v);
        return j_fail(r, "type %s doesn't define __round__ method", j_type_name(v));
    }
    if (v.kind != J_FLOAT && digits >= 0) return j_int(whole(v));
    const double x = j_as_float(v);
    if (v.kind == J_FLOAT && (!isfinite(x) || digits > 300)) return v;
    if (digits >= 0) {
        /* printf rounds the exact binary value, halves to even: what Python's round does */
        char text[700];
        snprintf(text, sizeof(text), "%.*f", (int)digits, x);
        return j_float(strtod(text, NULL));
    }
    if (digits < -308) return v.kind == J_FLOAT ? j_float(copysign(0, x)) : j_int(0);
    const double unit = pow(10, (double)-digits), rounded = nearbyint(x / unit) * unit;
    int64_t result;
    if (v.kind == J_FLOAT) return j_float(rounded);
    return j_int_of_float(rounded, &result) ? j_int(result) : too_large(r);
}
