/* test_template.c - chat templates render what Python's jinja2 renders.
 *
 * tests/data/template_golden.json, made by tools/make_template_golden.py, holds small templates of
 * every construct with their text or error, and conversations with the hashes of what the real
 * templates of WEIR_SHARED_DATA make of them.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L /* setenv, clock_gettime */

#include "text/template.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static json_t *golden;

static int load_golden(void **state) {
    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    json_error_t error;
    golden = json_load_file(TEST_DATA "/template_golden.json", JSON_ALLOW_NUL, &error);
    return golden ? 0 : -1;
}

static int drop_golden(void **state) {
    (void)state;
    json_decref(golden);
    return 0;
}

static weir_status render(const char *source, size_t size, const json_t *context, buffer *out,
                          weir_error *err) {
    chat_template *t;
    weir_status status = template_compile(&t, source, size, err);
    if (status == WEIR_OK) status = template_render(t, context, out, err);
    template_free(t);
    return status;
}

/* Renders in the context {}, and expects failure with a message that contains what. */
static void fails_saying(const char *source, const char *what) {
    buffer out = {0};
    weir_error err;
    json_t *empty = json_object();
    assert_int_equal(render(source, strlen(source), empty, &out, &err), WEIR_ERR_FORMAT);
    if (!strstr(err.message, what)) print_error("%s\n says \"%s\"\n", source, err.message);
    assert_non_null(strstr(err.message, what));
    assert_int_equal(out.size, 0);
    json_decref(empty);
}

/* ---- against jinja2 */

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

/* Is this the outcome that jinja2 had?  wanted has text, raised or error. */
static bool agrees(const char *what, weir_status status, const buffer *out, const char *message,
                   const json_t *wanted) {
    const json_t *text = json_object_get(wanted, "text");
    const char *raised = text_of(wanted, "raised");
    const char *got = out->data ? out->data : "";
    if (text) {
        if (status == WEIR_OK && out->size == json_string_length(text) &&
            memcmp(got, json_string_value(text), out->size) == 0) {
            return true;
        }
        print_error("%s: %s\n--- got\n%s\n--- wanted\n%s\n", what,
                    status == WEIR_OK ? "another text" : message, got, json_string_value(text));
        return false;
    }
    if (status == WEIR_ERR_FORMAT && (!raised || strstr(message, raised))) return true;
    print_error("%s: got \"%s\", wanted %s\n", what, status == WEIR_OK ? got : message,
                raised ? raised : text_of(wanted, "error"));
    return false;
}

static void every_construct_renders_as_in_jinja2(void **state) {
    (void)state;
    const json_t *cases = json_object_get(golden, "cases");
    const json_t *variables = json_object_get(golden, "variables");
    int failed = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i), *source = json_object_get(item, "template");
        buffer out = {0};
        weir_error err;
        const weir_status status =
            render(json_string_value(source), json_string_length(source), variables, &out, &err);
        failed += !agrees(text_of(item, "name"), status, &out, err.message, item);
        buffer_clear(&out);
    }
    assert_true(json_array_size(cases) > 90);
    assert_int_equal(failed, 0);
}

static uint64_t fnv(const char *data, size_t size) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) h = (h ^ (unsigned char)data[i]) * 0x100000001b3u;
    return h;
}

/* wanted has size and hash, or raised, or error. */
static bool same_render(const char *what, weir_status status, const buffer *out,
                        const char *message, const json_t *wanted) {
    if (!json_object_get(wanted, "hash")) return agrees(what, status, out, message, wanted);
    char hash[20];
    snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)fnv(out->data, out->size));
    const bool same = status == WEIR_OK && strcmp(hash, text_of(wanted, "hash")) == 0;
    if (!same) {
        print_error("%s: %s, %zu bytes, wanted %lld\n", what,
                    status == WEIR_OK ? "another text" : message, out->size,
                    json_integer_value(json_object_get(wanted, "size")));
    }
    return same;
}

/* Renders one real template in every conversation; returns how many differ, -1 when it is absent.
 */
static int compare_real(const char *name, json_t *results) {
    char path[512], what[600];
    snprintf(path, sizeof(path), "%s/chat_templates/%s", SHARED_DATA, name);
    mapped_file file;
    weir_error err;
    if (file_map(&file, path, &err) != WEIR_OK) return -1;
    chat_template *t;
    const weir_status compiled = template_compile(&t, (const char *)file.data, file.size, &err);
    if (compiled != WEIR_OK) print_error("%s: %s\n", name, err.message);
    int failed = compiled != WEIR_OK;
    const char *key;
    json_t *wanted;
    json_object_foreach(results, key, wanted) {
        if (!t) break;
        const json_t *context = json_object_get(json_object_get(golden, "contexts"), key);
        buffer out = {0};
        snprintf(what, sizeof(what), "%s, %s", name, key);
        const weir_status status = template_render(t, context, &out, &err);
        failed += !same_render(what, status, &out, err.message, wanted);
        buffer_clear(&out);
    }
    template_free(t);
    file_unmap(&file);
    return failed;
}

static void real_templates_render_as_in_jinja2(void **state) {
    (void)state;
    const char *name;
    json_t *results;
    int failed = 0, absent = 0, n = 0;
    json_object_foreach(json_object_get(golden, "real"), name, results) {
        const int differing = compare_real(name, results);
        if (differing < 0)
            absent++;
        else
            failed += differing;
        n++;
    }
    assert_true(n > 20);
    assert_int_equal(failed, 0);
    if (absent) {
        print_message("%d of %d real templates are not in %s/chat_templates\n", absent, n,
                      SHARED_DATA);
        skip();
    }
}

/* ---- errors */

static void errors_name_the_line_and_the_construct(void **state) {
    (void)state;
    fails_saying("a\nb\n{% include 'x' %}", "template line 3: the tag {% include %}");
    fails_saying("\n{{ x|frobnicate }}", "template line 2: no filter named 'frobnicate'");
    fails_saying("{{ x is frobnicated }}", "template line 1: no test named 'frobnicated'");
    fails_saying("{% if x %}\n\n", "expected elif");
    fails_saying("\n\n{{ x.y }}", "template line 3: 'x' is undefined");
    fails_saying("{{ {}.y.z }}", "'dict object' has no attribute 'y'");
    fails_saying("{{ [].append(1) }}", "access to attribute 'append' of 'list' object is unsafe");
    fails_saying("{{ 'x'.encode() }}", "the method 'encode' of 'str' is not supported");
    fails_saying("{{ lipsum() }}", "lipsum is not supported");
    fails_saying("{{ 9223372036854775807 + 1 }}", "an integer does not fit 64 bits");
    fails_saying("{{ 'a' $ }}", "unexpected character U+0024");
    fails_saying("\xff", "not valid UTF-8");
    fails_saying("{{ raise_exception('only \xc3\xa9' ~ 1) }}", "line 1: only \xc3\xa9"
                                                               "1");
}

static void failure_leaves_the_output_as_it_was(void **state) {
    (void)state;
    buffer out = {0};
    weir_error err;
    assert_true(buffer_append(&out, "before", 6));
    json_t *empty = json_object();
    const char *source = "some text{{ missing.x }}", *fine = " behind";
    assert_int_equal(render(source, strlen(source), empty, &out, &err), WEIR_ERR_FORMAT);
    assert_string_equal(out.data, "before");
    assert_int_equal(render(fine, strlen(fine), empty, &out, &err), WEIR_OK);
    assert_string_equal(out.data, "before behind");
    json_t *list = json_array();
    assert_int_equal(render(fine, strlen(fine), list, &out, &err), WEIR_ERR_ARGUMENT);
    json_decref(list);
    json_decref(empty);
    buffer_clear(&out);
}

/* A template is read only: what one rendering builds is not in the next one. */
static void renderings_are_independent(void **state) {
    (void)state;
    const char *source = "{% set a = 'x' 'y' %}{% set b = a + n|string %}{% set c = a + 'z' %}"
                         "{{ b }}{{ c }}{{ 'p' 'q' + n|string }}";
    chat_template *t;
    weir_error err;
    assert_int_equal(template_compile(&t, source, strlen(source), &err), WEIR_OK);
    for (int i = 1; i <= 3; i++) {
        char wanted[64];
        snprintf(wanted, sizeof(wanted), "xy%dxyzpq%d", i, i);
        json_t *context = json_pack("{s:i}", "n", i);
        buffer out = {0};
        assert_int_equal(template_render(t, context, &out, &err), WEIR_OK);
        assert_string_equal(out.data, wanted);
        buffer_clear(&out);
        json_decref(context);
    }
    template_free(t);
}

/* A list and a text built piece by piece: copies at every step would need gigabytes. */
static void building_is_linear(void **state) {
    (void)state;
    const char *source = "{% set n = namespace(l=[], s='') %}{% for i in range(50000) %}"
                         "{% set n.l = n.l + [i] %}{% set n.s = n.s + '12345678' %}{% endfor %}"
                         "{{ n.l|length }} {{ n.l[49999] }} {{ n.s|length }}";
    buffer out = {0};
    weir_error err;
    json_t *empty = json_object();
    assert_int_equal(render(source, strlen(source), empty, &out, &err), WEIR_OK);
    assert_string_equal(out.data, "50000 49999 400000");
    buffer_clear(&out);
    json_decref(empty);
}

static void without_a_fixed_time_the_clock_is_read(void **state) {
    (void)state;
    buffer out = {0};
    weir_error err;
    json_t *empty = json_object();
    const char *source = "{{ strftime_now('%Y%m%d') }}";
    char before[16], after[16];
    time_t now = time(NULL);
    strftime(before, sizeof(before), "%Y%m%d", gmtime(&now));
    assert_int_equal(render(source, strlen(source), empty, &out, &err), WEIR_OK);
    now = time(NULL);
    strftime(after, sizeof(after), "%Y%m%d", gmtime(&now));
    assert_true(strcmp(out.data, before) == 0 || strcmp(out.data, after) == 0);
    buffer_clear(&out);
    json_decref(empty);
}

/* ---- hostile templates */

static void hostile_templates_are_stopped(void **state) {
    (void)state;
    static const char *const templates[][2] = {
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deeper than"},
        {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "deeper than"},
        {"{% set n = namespace(v=[]) %}{% for i in range(9999) %}{% set n.v = [n.v] %}{% endfor %}"
         "{{ n.v }}",
         "deeper than"},
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "steps"},
        {"{% for a in range(99999) %}{% for b in range(99999) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa' "
         "* 99 }}{% endfor %}{% endfor %}",
         "longer than"},
        {"{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}"
         "{% endfor %}",
         "longer than"},
        {"{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}"
         "{% endfor %}",
         "longer than"},
        {"{{ 'a' * 999999999999 }}", "longer than"},
        {"{{ [1] * 999999999999 }}", "MiB"},
        {"{{ range(999999999999) }}", "Range too big"},
        {"{{ 'a'.ljust(999999999999) }}", "longer than"},
        {"{{ '%999999999d' % 1 }}", "a width above"},
        {"{{ '{:999999999}'.format(1) }}", "not supported"},
        {"{{ 10 ** 10 ** 10 }}", "64 bits"},
        {"{{ 'a' | indent(999999999999) }}", "longer than"},
        {"{% set n = namespace(s='aaaaaaaa') %}{% for i in range(22) %}{% set n.s = n.s + n.s %}"
         "{% endfor %}{{ n.s.replace('', n.s) }}",
         "longer than"},
        {"{% set n = namespace(s='\xc3\xa9') %}{% for i in range(20) %}{% set n.s = n.s + n.s %}"
         "{% endfor %}{% for i in range(90000) %}{{ n.s[i] }}{% endfor %}",
         "steps"},
        {"{% set n = namespace(g=range(9)) %}{% for i in range(9999) %}{% set n.g = n.g|map('abs') "
         "%}{% endfor %}{{ n.g|list }}",
         "deeper than"},
    };
    for (size_t i = 0; i < COUNT_OF(templates); i++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        fails_saying(templates[i][0], templates[i][1]);
        clock_gettime(CLOCK_MONOTONIC, &to);
        const double seconds =
            (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
        if (seconds > 20) print_error("%s: %.1f s\n", templates[i][0], seconds);
        assert_true(seconds < 20);
    }
}

static void deep_sources_are_refused(void **state) {
    (void)state;
    static const char *const deep[][3] = {
        {"{{ ", "(", "brackets nest deeper"}, {"{{ ", "not ", "deeper than"},
        {"{{ ", "-", "deeper than"},          {"", "{% if x %}", "deeper than"},
        {"{{ x", "[0]", "deeper than"},       {"{{ x", "|upper", "deeper than"},
        {"{{ 1", " + 1", "deeper than"},      {"{{ 1", " if 1 else 1", "deeper than"},
    };
    for (size_t i = 0; i < COUNT_OF(deep); i++) {
        buffer source = {0};
        assert_true(buffer_append(&source, deep[i][0], strlen(deep[i][0])));
        for (int k = 0; k < 20000; k++) {
            assert_true(buffer_append(&source, deep[i][1], strlen(deep[i][1])));
        }
        assert_true(buffer_append(&source, " }}", 3));
        fails_saying(source.data, deep[i][2]);
        buffer_clear(&source);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_construct_renders_as_in_jinja2),
        cmocka_unit_test(real_templates_render_as_in_jinja2),
        cmocka_unit_test(errors_name_the_line_and_the_construct),
        cmocka_unit_test(failure_leaves_the_output_as_it_was),
        cmocka_unit_test(renderings_are_independent),
        cmocka_unit_test(building_is_linear),
        cmocka_unit_test(without_a_fixed_time_the_clock_is_read),
        cmocka_unit_test(hostile_templates_are_stopped),
        cmocka_unit_test(deep_sources_are_refused),
    };
    return cmocka_run_group_tests(tests, load_golden, drop_golden);
}
