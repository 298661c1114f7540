/* format.c - formatted text: "%05.1f" % x, and "{:>5}".format(x).
 *
 *     %[(name)][flags][width][.precision]type         names, tuples or one value
 *     {[name][.attribute | [key]]...[!r][:spec]}      spec:
 * [[fill]align][sign][#][0][width][,][.n][type]
 *
 * Both end in the same three steps: the digits or text of the value, its sign and prefix, padding
 * to the width.  What Python's mini-languages have beyond this (nested fields, locale types) is an
 * error.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_WIDTH = 100 * 1000, MAX_PRECISION = 200 };

typedef struct spec {
    uint32_t fill;
    char align; /* < > ^ or = (behind the sign); 0: the default of the type */
    char sign;  /* + or a space; 0: only minus */
    char type;  /* 0: none was given */
    bool alternative;
    char comma;
    int width, precision; /* -1: none */
} spec;

/* ---- the last steps */

static void pad(j_run *r, j_builder *b, uint32_t fill, int64_t n) {
    for (int64_t i = 0; i < n && !r->failed; i++) j_put_char(r, b, fill);
}

static void put_padded(j_run *r, j_builder *b, const spec *s, char align, const char *head,
                       const j_text *body) {
    if (!j_step(r, (size_t)MAX_OF(s->width, 0) + body->size)) return;
    const int64_t room = s->width - (int64_t)strlen(head) - (int64_t)body->chars;
    if (s->align) align = s->align;
    const int64_t before = room <= 0 || align == '<' || align == '=' ? 0
                           : align == '>'                            ? room
                                                                     : room / 2;
    pad(r, b, s->fill, before);
    j_puts(r, b, head);
    if (align == '=') pad(r, b, s->fill, room);
    j_put_text(r, b, body);
    if (align != '=') pad(r, b, s->fill, room - before);
}

static void put_text_value(j_run *r, j_builder *b, const spec *s, const j_text *t, char align) {
    const bool cut = s->precision >= 0 && (size_t)s->precision < t->chars;
    const j_value part = j_part_of(r, t, 0, cut ? j_offset(t, (size_t)s->precision) : t->size);
    if (!r->failed) put_padded(r, b, s, align, "", part.as.text);
}

/* Digits with a separator before every third from the right of the point. */
static size_t group(char *out, const char *digits, size_t size, char comma) {
    size_t whole = 0, n = 0;
    while (whole < size && digits[whole] >= '0' && digits[whole] <= '9') whole++;
    for (size_t i = 0; i < size; i++) {
        if (comma && i > 0 && i < whole && (whole - i) % 3 == 0) out[n++] = comma;
        out[n++] = digits[i];
    }
    return n;
}

static void put_number_value(j_run *r, j_builder *b, const spec *s, bool negative,
                             const char *prefix, const char *digits) {
    char head[8], grouped[1024];
    const char sign[2] = {negative ? '-' : s->sign, 0};
    snprintf(head, sizeof(head), "%s%s", sign, prefix);
    const size_t n = group(grouped, digits, strlen(digits), s->comma);
    put_padded(r, b, s, '>', head, &(j_text){.data = grouped, .size = n, .chars = n});
}

static void put_integer(j_run *r, j_builder *b, const spec *s, int64_t i, char type) {
    char digits[80], *at = digits + sizeof(digits);
    const unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    const char *letters = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    uint64_t rest = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    int count = 0;
    *--at = 0;
    for (; rest || count == 0 || count < MIN_OF(s->precision, 64); count++) {
        *--at = letters[rest % base];
        rest /= base;
    }
    const char prefix[3] = {'0', type, 0};
    put_number_value(r, b, s, i < 0, s->alternative && base != 10 ? prefix : "", at);
}

static void put_real(j_run *r, j_builder *b, const spec *s, double x, char type) {
    char digits[640];
    const int precision = s->precision < 0 ? 6 : s->precision;
    if (precision > MAX_PRECISION) {
        j_fail(r, "a precision above %d is not supported", MAX_PRECISION);
        return;
    }
    const bool percent = type == '%';
    if (percent) x *= 100;
    const double magnitude = fabs(x);
    switch (type) {
    case '%':
    case 'f': snprintf(digits, sizeof(digits), "%.*f", precision, magnitude); break;
    case 'F': snprintf(digits, sizeof(digits), "%.*F", precision, magnitude); break;
    case 'e': snprintf(digits, sizeof(digits), "%.*e", precision, magnitude); break;
    case 'E': snprintf(digits, sizeof(digits), "%.*E", precision, magnitude); break;
    case 'G': snprintf(digits, sizeof(digits), "%.*G", precision, magnitude); break;
    default: snprintf(digits, sizeof(digits), "%.*g", precision, magnitude); break;
    }
    if (percent) strcat(digits, "%");
    put_number_value(r, b, s, signbit(x) && !isnan(x), "", digits);
}

static bool is_real_type(char type) {
    return type && strchr("fFeEgG%", type);
}

static int64_t whole(j_value v) {
    return v.kind == J_BOOL ? v.as.truth : v.as.integer;
}

/* ---- format % values */

typedef struct percent {
    j_run *r;
    j_builder *b;
    const char *at, *end;
    const j_value *items; /* [n] */
    int n, used;
    j_value named; /* a dict, or missing */
    bool safe;
} percent;

static j_value next_value(percent *p) {
    if (p->used < p->n) return p->items[p->used++];
    return j_fail(p->r, "not enough arguments for format string");
}

static int read_count(percent *p) {
    if (p->at < p->end && *p->at == '*') {
        p->at++;
        const int64_t n = j_arg_int(p->r, next_value(p), 0);
        if (n >= 0 && n <= MAX_WIDTH) return (int)n;
        j_fail(p->r, "a width of %lld is not supported", (long long)n);
        return 0;
    }
    int n = 0;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9' && n <= MAX_WIDTH) {
        n = n * 10 + (*p->at++ - '0');
    }
    if (n > MAX_WIDTH) j_fail(p->r, "a width above %d is not supported", MAX_WIDTH);
    return n;
}

/* (name): the value of that key becomes the only argument. */
static bool read_name(percent *p, j_value *value) {
    if (p->at == p->end || *p->at != '(') return false;
    const char *name = ++p->at;
    int depth = 1;
    while (p->at < p->end && depth) {
        depth += (*p->at == '(') - (*p->at == ')');
        p->at++;
    }
    if (depth) {
        j_fail(p->r, "incomplete format key");
    } else if (p->named.kind == J_MISSING) {
        j_fail(p->r, "format requires a mapping");
    } else {
        const j_value key = j_text_of(p->r, name, (size_t)(p->at - name - 1));
        const j_value *v = p->r->failed ? NULL : j_dict_get(p->r, p->named.as.dict, key);
        if (!v)
            j_fail(p->r, "a format names a key that is not there");
        else
            *value = *v;
    }
    return true;
}

static void read_flags(percent *p, spec *s) {
    for (; p->at < p->end && strchr("-+ #0", *p->at) && *p->at; p->at++) {
        if (*p->at == '-')
            s->align = '<';
        else if (*p->at == '+')
            s->sign = '+';
        else if (*p->at == ' ' && !s->sign)
            s->sign = ' ';
        else if (*p->at == '#')
            s->alternative = true;
        else if (*p->at == '0')
            s->fill = '0';
    }
}

static void put_percent_number(percent *p, spec *s, j_value v, char type) {
    int64_t i = 0;
    if (s->align == '<')
        s->fill = ' ';
    else if (s->fill == '0')
        s->align = '=';
    if (!j_is_number(v) || (v.kind == J_FLOAT && (type == 'x' || type == 'X' || type == 'o'))) {
        if (v.kind == J_UNDEFINED)
            j_fail_undefined(p->r, v);
        else
            j_fail(p->r, "%%%c format: a number is required, not %s", type, j_type_name(v));
    } else if (is_real_type(type)) {
        put_real(p->r, p->b, s, j_as_float(v), type);
    } else if (v.kind == J_FLOAT && !j_int_of_float(v.as.real, &i)) {
        j_fail(p->r, "cannot convert a float of this size to integer");
    } else {
        put_integer(p->r, p->b, s, v.kind == J_FLOAT ? i : whole(v), type == 'i' ? 'd' : type);
    }
}

static void put_percent_value(percent *p, spec *s, j_value v, char type) {
    if (type == 's' || type == 'r') {
        j_builder text = {0};
        if (type == 'r')
            j_put_repr(p->r, &text, v);
        else
            j_put_str(p->r, &text, v);
        j_value done = j_finish(p->r, &text);
        if (p->safe && !p->r->failed) {
            done = v.kind == J_TEXT && v.as.text->safe ? v : j_escape(p->r, done);
        }
        s->fill = ' ';
        if (!p->r->failed) put_text_value(p->r, p->b, s, done.as.text, '>');
    } else if (type && strchr("diuxXofFeEgG", type)) {
        put_percent_number(p, s, v, type == 'u' ? 'd' : type);
    } else {
        j_fail(p->r, "the format character %%%c is not supported", type >= ' ' ? type : '?');
    }
}

static void put_conversion(percent *p) {
    spec s = {.fill = ' ', .width = -1, .precision = -1};
    j_value v = j_missing();
    read_name(p, &v);
    read_flags(p, &s);
    s.width = read_count(p);
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        s.precision = read_count(p);
    }
    while (p->at < p->end && (*p->at == 'l' || *p->at == 'h' || *p->at == 'L')) p->at++;
    if (p->r->failed) return;
    if (p->at == p->end) {
        j_fail(p->r, "incomplete format");
        return;
    }
    const char type = *p->at++;
    if (type == '%') {
        j_puts(p->r, p->b, "%");
        return;
    }
    if (v.kind == J_MISSING) v = next_value(p);
    if (!p->r->failed) put_percent_value(p, &s, v, type);
}

j_value j_format_percent(j_run *r, const j_text *format, j_value values) {
    j_builder b = {0};
    percent p = {.r = r, .b = &b, .at = format->data, .safe = format->safe};
    p.end = format->data + format->size;
    p.named = values.kind == J_DICT ? values : j_missing();
    p.items = values.kind == J_TUPLE ? values.as.list->items : &values;
    p.n = values.kind == J_TUPLE ? values.as.list->n : 1;
    while (p.at < p.end && j_step(r, 0)) {
        const char *sign = memchr(p.at, '%', (size_t)(p.end - p.at));
        const char *stop = sign ? sign : p.end;
        j_put(r, &b, p.at, (size_t)(stop - p.at));
        p.at = stop;
        if (!sign) break;
        p.at++;
        put_conversion(&p);
    }
    /* what could be a mapping may stay unused */
    const bool optional = values.kind == J_DICT || values.kind == J_LIST ||
                          values.kind == J_RANGE || values.kind == J_UNDEFINED;
    if (!r->failed && p.used < p.n && !optional) {
        return j_fail(r, "not all arguments converted during string formatting");
    }
    return j_mark_safe(r, j_finish(r, &b), format->safe);
}

/* ---- format.format(...) */

static bool is_align(uint32_t c) {
    return c == '<' || c == '>' || c == '^' || c == '=';
}

static int read_digits(const char **at, const char *end) {
    int n = 0;
    while (*at < end && **at >= '0' && **at <= '9' && n <= MAX_WIDTH) n = n * 10 + (*(*at)++ - '0');
    return n;
}

static bool read_spec(j_run *r, const char *at, const char *end, spec *s) {
    *s = (spec){.fill = ' ', .width = -1, .precision = -1};
    if (at == end) return true;
    uint32_t c;
    const size_t first = j_decode(at, &c);
    if (at + first < end && is_align((uint32_t)(unsigned char)at[first])) {
        s->fill = c;
        s->align = at[first];
        at += first + 1;
    } else if (is_align(c)) {
        s->align = *at++;
    }
    if (at < end && (*at == '+' || *at == '-' || *at == ' ')) s->sign = *at == '-' ? 0 : *at, at++;
    if (at < end && *at == '#') s->alternative = true, at++;
    if (at < end && *at == '0') {
        if (!s->align) s->fill = '0', s->align = '=';
        at++;
    }
    if (at < end && *at >= '0' && *at <= '9') s->width = read_digits(&at, end);
    if (at < end && (*at == ',' || *at == '_')) s->comma = *at++;
    if (at < end && *at == '.') at++, s->precision = read_digits(&at, end);
    if (at < end) s->type = *at++;
    const bool sane = s->width <= MAX_WIDTH && s->precision <= MAX_WIDTH;
    if (at < end || !sane) j_fail(r, "this format specification is not supported");
    return !r->failed;
}

static void put_braced_number(j_run *r, j_builder *b, spec *s, j_value v) {
    const bool real = v.kind == J_FLOAT;
    if (is_real_type(s->type)) {
        put_real(r, b, s, j_as_float(v), s->type);
    } else if (!real && (!s->type || strchr("dxXob", s->type)) && s->precision < 0) {
        put_integer(r, b, s, whole(v), s->type ? s->type : 'd');
    } else if (real && !s->type && s->precision < 0) {
        j_builder digits = {0};
        j_put_float(r, &digits, fabs(v.as.real));
        j_put(r, &digits, "", 1);
        if (!r->failed) put_number_value(r, b, s, signbit(v.as.real), "", digits.data);
    } else {
        j_fail(r, "this format of a number is not supported");
    }
}

static void put_braced(j_run *r, j_builder *b, j_value v, char conversion, const char *at,
                       const char *end) {
    spec s;
    if (!read_spec(r, at, end, &s)) return;
    if (conversion) {
        j_builder text = {0};
        if (conversion == 'r')
            j_put_repr(r, &text, v);
        else
            j_put_str(r, &text, v);
        v = j_finish(r, &text);
    } else if (at == end) {
        v = j_str(r, v);
    }
    if (r->failed) return;
    if (v.kind == J_BOOL && !s.type) v = j_str(r, v);
    if (v.kind == J_TEXT && (!s.type || s.type == 's') && s.align != '=') {
        put_text_value(r, b, &s, v.as.text, '<');
    } else if (j_is_number(v)) {
        put_braced_number(r, b, &s, v);
    } else {
        j_fail(r, "unsupported format string passed to %s.__format__", j_type_name(v));
    }
}

typedef struct braces {
    j_run *r;
    const j_args *args;
    int next; /* of the fields without name; -1 once a number was used */
} braces;

static j_value argument(braces *f, const char *name, size_t size) {
    int64_t i = f->next;
    const j_text text = {.data = name, .size = size, .chars = size};
    if (size == 0) {
        if (f->next++ < 0) return j_fail(f->r, "cannot switch from manual to automatic numbering");
    } else if (!j_read_int(&text, 10, &i)) {
        const j_value *v = f->args->named ? j_dict_find(f->args->named, &text) : NULL;
        return v ? *v
                 : j_fail(f->r, "format() lacks the argument '%.*s'", (int)MIN_OF(size, (size_t)60),
                          name);
    } else {
        if (f->next > 0) return j_fail(f->r, "cannot switch from automatic to manual numbering");
        f->next = -1;
    }
    if (i < 0 || i >= f->args->n) return j_fail(f->r, "format() lacks argument %lld", (long long)i);
    return f->args->items[i];
}

/* name.attribute[key]... */
static j_value field(braces *f, const char *at, const char *end) {
    const char *stop = at;
    while (stop < end && *stop != '.' && *stop != '[') stop++;
    j_value v = argument(f, at, (size_t)(stop - at));
    for (at = stop; at < end && !f->r->failed;) {
        const bool bracket = *at++ == '[';
        for (stop = at; stop < end && (bracket ? *stop != ']' : *stop != '.' && *stop != '[');) {
            stop++;
        }
        const j_value key = j_text_of(f->r, at, (size_t)(stop - at));
        int64_t index;
        if (f->r->failed) break;
        if (!bracket)
            v = j_attribute(f->r, v, key.as.text);
        else if (j_read_int(key.as.text, 10, &index))
            v = j_item(f->r, v, j_int(index));
        else
            v = j_item(f->r, v, key);
        at = stop + (bracket && stop < end);
    }
    return v;
}

static void put_field(braces *f, j_builder *b, const char *at, const char *end) {
    const char *name_end = at;
    while (name_end < end && *name_end != '!' && *name_end != ':') name_end++;
    const j_value v = field(f, at, name_end);
    char conversion = 0;
    at = name_end;
    if (at < end && *at == '!') {
        conversion = at + 1 < end ? at[1] : 0;
        at += 2;
        if ((conversion != 'r' && conversion != 's') || (at < end && *at != ':')) {
            j_fail(f->r, "this conversion of a format is not supported");
        }
    }
    if (at < end) at++;
    if (f->r->failed) return;
    if (memchr(at, '{', (size_t)(end - at))) {
        j_fail(f->r, "nested fields of a format are not supported");
        return;
    }
    put_braced(f->r, b, v, conversion, MIN_OF(at, end), end);
}

j_value j_format_braces(j_run *r, const j_text *format, const j_args *args) {
    j_builder b = {0};
    braces f = {r, args, 0};
    const char *at = format->data, *end = at + format->size;
    while (at < end && j_step(r, 1)) {
        const char c = *at++;
        if ((c == '{' || c == '}') && at < end && *at == c) {
            j_put(r, &b, at++, 1);
        } else if (c == '{') {
            int depth = 1;
            const char *stop = at;
            for (; stop < end; stop++) {
                depth += (*stop == '{') - (*stop == '}');
                if (depth == 0) break;
            }
            if (depth) return j_fail(r, "expected '}' before end of string");
            put_field(&f, &b, at, stop);
            at = stop + 1;
        } else if (c == '}') {
            return j_fail(r, "single '}' encountered in format string");
        } else {
            j_put(r, &b, &c, 1);
        }
    }
    return j_mark_safe(r, j_finish(r, &b), format->safe);
}
