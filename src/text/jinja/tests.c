/* tests.c - what may stand behind `is`.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

/* Every test has the same parameters; this writes them and names what it asks for. */
#define TEST(name) static j_value name(j_run *r, j_value self, const j_value *a, const j_args *all)
#define UNUSED     (void)r, (void)self, (void)a, (void)all

TEST(is_defined) {
    UNUSED;
    return j_bool(self.kind != J_UNDEFINED);
}

TEST(is_undefined) {
    UNUSED;
    return j_bool(self.kind == J_UNDEFINED);
}

TEST(is_none) {
    UNUSED;
    return j_bool(self.kind == J_NONE);
}

TEST(is_boolean) {
    UNUSED;
    return j_bool(self.kind == J_BOOL);
}

TEST(is_true) {
    UNUSED;
    return j_bool(self.kind == J_BOOL && self.as.truth);
}

TEST(is_false) {
    UNUSED;
    return j_bool(self.kind == J_BOOL && !self.as.truth);
}

TEST(is_integer) {
    UNUSED;
    return j_bool(self.kind == J_INT);
}

TEST(is_float) {
    UNUSED;
    return j_bool(self.kind == J_FLOAT);
}

TEST(is_number) {
    UNUSED;
    return j_bool(j_is_number(self));
}

TEST(is_string) {
    UNUSED;
    return j_bool(self.kind == J_TEXT);
}

TEST(is_mapping) {
    UNUSED;
    return j_bool(self.kind == J_DICT);
}

TEST(is_iterable) {
    UNUSED;
    return j_bool(j_iterable(self));
}

/* What has a length and items: an undefined value does, as it answers to everything. */
TEST(is_sequence) {
    UNUSED;
    const bool indexed = self.kind == J_TEXT || self.kind == J_DICT || self.kind == J_RANGE;
    return j_bool(indexed || j_is_sequence(self) || self.kind == J_UNDEFINED);
}

TEST(is_callable) {
    UNUSED;
    switch ((int)self.kind) {
    case J_UNDEFINED:
    case J_LOOP:
    case J_MACRO:
    case J_METHOD:
    case J_FUNCTION:
    case J_JOINER: return j_bool(true);
    default: return j_bool(false);
    }
}

TEST(is_escaped) {
    UNUSED;
    return j_bool(self.kind == J_TEXT && self.as.text->safe);
}

TEST(is_same) {
    UNUSED;
    return j_bool(j_same(self, a[0]));
}

TEST(is_divisible) {
    UNUSED;
    const j_value rest = j_modulo(r, self, a[0]);
    return j_bool(j_equal(r, rest, j_int(0)));
}

TEST(is_odd) {
    UNUSED;
    return j_bool(j_equal(r, j_modulo(r, self, j_int(2)), j_int(1)));
}

TEST(is_even) {
    UNUSED;
    return j_bool(j_equal(r, j_modulo(r, self, j_int(2)), j_int(0)));
}

TEST(is_lower) {
    UNUSED;
    const j_value text = j_str(r, self);
    return j_bool(!r->failed && j_is_cased_as(text.as.text, J_LOWER));
}

TEST(is_upper) {
    UNUSED;
    const j_value text = j_str(r, self);
    return j_bool(!r->failed && j_is_cased_as(text.as.text, J_UPPER));
}

TEST(is_in) {
    UNUSED;
    return j_bool(j_contains(r, a[0], self));
}

TEST(is_equal) {
    UNUSED;
    return j_bool(j_equal(r, self, a[0]));
}

TEST(is_not_equal) {
    UNUSED;
    return j_bool(!j_equal(r, self, a[0]));
}

TEST(is_less) {
    UNUSED;
    return j_bool(j_less(r, self, a[0]));
}

TEST(is_greater) {
    UNUSED;
    return j_bool(j_less(r, a[0], self));
}

TEST(is_at_most) {
    UNUSED;
    return j_bool(j_less(r, self, a[0]) || j_equal(r, self, a[0]));
}

TEST(is_at_least) {
    UNUSED;
    return j_bool(j_less(r, a[0], self) || j_equal(r, self, a[0]));
}

TEST(is_filter) {
    UNUSED;
    return j_bool(self.kind == J_TEXT && j_find_filter(self.as.text));
}

TEST(is_test) {
    UNUSED;
    return j_bool(self.kind == J_TEXT && j_find_test(self.as.text));
}

const j_function j_tests[] = {
    {"!=", is_not_equal, "/other", 1},
    {"<", is_less, "/other", 1},
    {"<=", is_at_most, "/other", 1},
    {"==", is_equal, "/other", 1},
    {">", is_greater, "/other", 1},
    {">=", is_at_least, "/other", 1},
    {"boolean", is_boolean, "", 0},
    {"callable", is_callable, "", 0},
    {"defined", is_defined, "", 0},
    {"divisibleby", is_divisible, "num", 1},
    {"eq", is_equal, "/other", 1},
    {"equalto", is_equal, "/other", 1},
    {"escaped", is_escaped, "", 0},
    {"even", is_even, "", 0},
    {"false", is_false, "", 0},
    {"filter", is_filter, "", 0},
    {"float", is_float, "", 0},
    {"ge", is_at_least, "/other", 1},
    {"greaterthan", is_greater, "/other", 1},
    {"gt", is_greater, "/other", 1},
    {"in", is_in, "seq", 1},
    {"integer", is_integer, "", 0},
    {"iterable", is_iterable, "", 0},
    {"le", is_at_most, "/other", 1},
    {"lessthan", is_less, "/other", 1},
    {"lower", is_lower, "", 0},
    {"lt", is_less, "/other", 1},
    {"mapping", is_mapping, "", 0},
    {"ne", is_not_equal, "/other", 1},
    {"none", is_none, "", 0},
    {"number", is_number, "", 0},
    {"odd", is_odd, "", 0},
    {"sameas", is_same, "other", 1},
    {"sequence", is_sequence, "", 0},
    {"string", is_string, "", 0},
    {"test", is_test, "", 0},
    {"true", is_true, "", 0},
    {"undefined", is_undefined, "", 0},
    {"upper", is_upper, "", 0},
    {0},
};
