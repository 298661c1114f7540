/* value.c - the run's limits, lists and dicts, and what Python's operators ask of values.
 *
 * A dict is an array of entries in order of insertion; beyond eight of them a table of open
 * addressing, twice as large as the entries at least, finds them:
 *
 *     entries  [ k0 v0 h0 | k1 v1 h1 | ... ]        table  [ 0 | 2 | 0 | 1 | ... ]  1 + index
 *
 * Comparisons recurse into containers; every level is counted (j_enter).
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the run */

void *j_alloc(j_run *r, size_t count, size_t size) {
    const size_t bytes = size_mul(count, size);
    if (r->failed) return NULL;
    if (bytes > MAX_BYTES || r->bytes > MAX_BYTES - bytes) {
        j_fail(r, "the template needs more than %d MiB of memory", MAX_BYTES >> 20);
        return NULL;
    }
    r->bytes += bytes;
    void *p = arena_alloc(r->arena, bytes, 16);
    if (!p) j_fail_memory(r);
    return p;
}

bool j_step(j_run *r, size_t bytes) {
    r->steps += 1 + (int64_t)(bytes / 64);
    if (r->steps > MAX_STEPS) j_fail(r, "the template takes more than %d steps", MAX_STEPS);
    return !r->failed;
}

bool j_enter(j_run *r) {
    if (r->failed) return false;
    if (r->depth >= MAX_DEPTH) {
        j_fail(r, "the template nests or recurses deeper than %d levels", MAX_DEPTH);
        return false;
    }
    r->depth++;
    return true;
}

void j_leave(j_run *r) {
    r->depth--;
}

j_value j_fail(j_run *r, const char *format, ...) {
    if (!r->failed) {
        r->failed = true;
        r->status = WEIR_ERR_FORMAT;
        const int n = snprintf(r->message, sizeof(r->message), "template line %d: ", r->line);
        va_list args;
        va_start(args, format);
        vsnprintf(r->message + n, sizeof(r->message) - (size_t)n, format, args);
        va_end(args);
    }
    return (j_value){.kind = J_UNDEFINED};
}

j_value j_fail_memory(j_run *r) {
    if (!r->failed) {
        j_fail(r, "out of memory");
        r->status = WEIR_ERR_MEMORY;
    }
    return (j_value){.kind = J_UNDEFINED};
}

j_value j_fail_undefined(j_run *r, j_value v) {
    const j_undefined *u = v.as.undefined;
    if (!u) return j_fail(r, "a value is undefined");
    if (u->hint) return j_fail(r, "%s", u->hint);
    const int size = u->name ? (int)MIN_OF(u->name->size, (size_t)100) : 0;
    const char *name = u->name ? u->name->data : "";
    if (!u->owner) return j_fail(r, "'%.*s' is undefined", size, name);
    if (!u->name) return j_fail(r, "%s object has no such element", u->owner);
    return j_fail(r, "'%s object' has no attribute '%.*s'", u->owner, size, name);
}

/* ---- making values */

j_value j_none(void) {
    return (j_value){.kind = J_NONE};
}

j_value j_bool(bool truth) {
    return (j_value){.kind = J_BOOL, .as.truth = truth};
}

j_value j_int(int64_t integer) {
    return (j_value){.kind = J_INT, .as.integer = integer};
}

j_value j_float(double real) {
    return (j_value){.kind = J_FLOAT, .as.real = real};
}

j_value j_missing(void) {
    return (j_value){.kind = J_MISSING};
}

static j_value undefined_new(j_run *r, j_undefined why) {
    j_undefined *u = j_alloc(r, 1, sizeof(*u));
    if (u) *u = why;
    return (j_value){.kind = J_UNDEFINED, .as.undefined = u};
}

j_value j_undefined_hint(j_run *r, const char *hint) {
    return undefined_new(r, (j_undefined){.hint = hint});
}

j_value j_undefined_name(j_run *r, const char *owner, const j_text *name) {
    return undefined_new(r, (j_undefined){.owner = owner, .name = name});
}

static j_value array_from_json(j_run *r, const json_t *json) {
    j_list *list = j_list_new(r, (int)MIN_OF(json_array_size(json), (size_t)(1 << 20)));
    size_t i;
    const json_t *item;
    json_array_foreach(json, i, item) {
        if (!list || !j_push(r, list, j_from_json(r, item))) break;
    }
    return j_list_value(list);
}

static j_value object_from_json(j_run *r, const json_t *json) {
    j_dict *dict = j_dict_new(r, (int)MIN_OF(json_object_size(json), (size_t)(1 << 20)));
    /* jansson's iterators take the object as mutable, and leave it alone */
    union {
        const json_t *constant;
        json_t *object;
    } it = {json};
    const char *key;
    json_t *item;
    json_object_foreach(it.object, key, item) {
        const j_value name = j_text_of(r, key, strlen(key));
        if (!dict || !j_dict_set(r, dict, name, j_from_json(r, item))) break;
    }
    return j_dict_value(dict);
}

j_value j_from_json(j_run *r, const json_t *json) {
    if (!j_enter(r)) return j_none();
    j_value v = j_none();
    switch (json_typeof(json)) {
    case JSON_OBJECT: v = object_from_json(r, json); break;
    case JSON_ARRAY: v = array_from_json(r, json); break;
    case JSON_STRING: v = j_text_of(r, json_string_value(json), json_string_length(json)); break;
    case JSON_INTEGER: v = j_int(json_integer_value(json)); break;
    case JSON_REAL: v = j_float(json_real_value(json)); break;
    case JSON_TRUE: v = j_bool(true); break;
    case JSON_FALSE: v = j_bool(false); break;
    case JSON_NULL: break;
    }
    j_leave(r);
    return v;
}

/* ---- lists */

j_list *j_list_new(j_run *r, int capacity) {
    j_list *l = j_alloc(r, 1, sizeof(*l));
    if (!l || capacity == 0) return l;
    l->items = j_alloc(r, (size_t)capacity, sizeof(j_value));
    if (!l->items) return NULL;
    l->capacity = capacity;
    return l;
}

bool j_push(j_run *r, j_list *l, j_value v) {
    if (r->failed || !l) return false;
    if (l->n == l->capacity) {
        if (l->n > MAX_BYTES / 32) {
            j_fail(r, "a list is longer than %d items", l->n);
            return false;
        }
        const int capacity = l->n < 4 ? 8 : 2 * l->n;
        j_value *items = j_alloc(r, (size_t)capacity, sizeof(*items));
        if (!items) return false;
        if (l->n) memcpy(items, l->items, (size_t)l->n * sizeof(*items));
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->n++] = v;
    return true;
}

j_value j_list_value(j_list *l) {
    return l ? (j_value){.kind = J_LIST, .as.list = l} : (j_value){.kind = J_UNDEFINED};
}

j_value j_tuple_value(j_list *l) {
    return l ? (j_value){.kind = J_TUPLE, .as.list = l} : (j_value){.kind = J_UNDEFINED};
}

j_value j_pair(j_run *r, j_value a, j_value b) {
    j_list *l = j_list_new(r, 2);
    j_push(r, l, a);
    j_push(r, l, b);
    return j_tuple_value(l);
}

/* ---- dicts */

static uint64_t mix(uint64_t h) {
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}

static uint64_t text_hash(const j_text *t) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < t->size; i++) h = (h ^ (unsigned char)t->data[i]) * 0x100000001b3u;
    return h;
}

/* Equal numbers have equal hashes whatever their kind: 1, 1.0 and true are one key. */
static uint64_t number_hash(j_value v) {
    if (v.kind == J_BOOL) return mix(v.as.truth);
    if (v.kind == J_INT) return mix((uint64_t)v.as.integer);
    int64_t whole;
    if (j_int_of_float(v.as.real, &whole) && (double)whole == v.as.real)
        return mix((uint64_t)whole);
    uint64_t bits;
    memcpy(&bits, &v.as.real, sizeof(bits));
    return mix(bits);
}

bool j_hash(j_run *r, j_value v, uint64_t *hash) {
    *hash = (uint64_t)v.kind;
    if (v.kind == J_TEXT) {
        *hash = text_hash(v.as.text);
    } else if (j_is_number(v)) {
        *hash = number_hash(v);
    } else if (v.kind == J_TUPLE) {
        if (!j_enter(r)) return false;
        for (int i = 0; i < v.as.list->n; i++) {
            uint64_t h;
            if (!j_hash(r, v.as.list->items[i], &h)) break;
            *hash = mix(*hash * 31 + h);
        }
        j_leave(r);
    } else if (v.kind == J_LIST || v.kind == J_DICT || v.kind == J_SLICE) {
        j_fail(r, "unhashable type: '%s'", j_type_name(v));
    }
    return !r->failed;
}

j_dict *j_dict_new(j_run *r, int capacity) {
    j_dict *d = j_alloc(r, 1, sizeof(*d));
    if (!d || capacity == 0) return d;
    d->entries = j_alloc(r, (size_t)capacity, sizeof(j_entry));
    if (!d->entries) return NULL;
    d->capacity = capacity;
    return d;
}

/* The index of the entry with this key, or -1. */
static int locate(j_run *r, const j_dict *d, j_value key, uint64_t hash) {
    if (!d->table) {
        for (int i = 0; i < d->n; i++) {
            if (d->entries[i].hash == hash && j_equal(r, d->entries[i].key, key)) return i;
        }
        return -1;
    }
    const int mask = d->table_size - 1;
    for (int at = (int)(mix(hash) & (uint64_t)mask); d->table[at]; at = (at + 1) & mask) {
        const int i = d->table[at] - 1;
        if (d->entries[i].hash == hash && j_equal(r, d->entries[i].key, key)) return i;
    }
    return -1;
}

static void index_entry(j_dict *d, int i) {
    const int mask = d->table_size - 1;
    int at = (int)(mix(d->entries[i].hash) & (uint64_t)mask);
    while (d->table[at]) at = (at + 1) & mask;
    d->table[at] = i + 1;
}

/* Makes room for one more entry, and a table of at least twice as many places beyond eight. */
static bool grow(j_run *r, j_dict *d) {
    if (d->n == d->capacity) {
        if (d->n > MAX_BYTES / 128) {
            j_fail(r, "a dict is larger than %d entries", d->n);
            return false;
        }
        const int capacity = d->n < 4 ? 8 : 2 * d->n;
        j_entry *entries = j_alloc(r, (size_t)capacity, sizeof(*entries));
        if (!entries) return false;
        if (d->n) memcpy(entries, d->entries, (size_t)d->n * sizeof(*entries));
        d->entries = entries;
        d->capacity = capacity;
    }
    if (d->n < 8 || 2 * (d->n + 1) <= d->table_size) return true;
    const int size = d->table_size ? 2 * d->table_size : 32;
    int *table = j_alloc(r, (size_t)size, sizeof(*table));
    if (!table) return false;
    d->table = table;
    d->table_size = size;
    for (int i = 0; i < d->n; i++) index_entry(d, i);
    return true;
}

bool j_dict_set(j_run *r, j_dict *d, j_value key, j_value value) {
    uint64_t hash;
    if (!d || !j_hash(r, key, &hash)) return false;
    const int found = locate(r, d, key, hash);
    if (found >= 0) {
        d->entries[found].value = value;
        return true;
    }
    if (!grow(r, d)) return false;
    d->entries[d->n] = (j_entry){key, value, hash};
    d->n++;
    if (d->table) index_entry(d, d->n - 1);
    return true;
}

const j_value *j_dict_get(j_run *r, const j_dict *d, j_value key) {
    uint64_t hash;
    if (!j_hash(r, key, &hash)) return NULL;
    const int i = locate(r, d, key, hash);
    return i < 0 ? NULL : &d->entries[i].value;
}

const j_value *j_dict_find(const j_dict *d, const j_text *key) {
    /* text neither fails to hash nor to compare, so this lookup needs no run */
    j_run none = {0};
    return j_dict_get(&none, d, (j_value){.kind = J_TEXT, .as.text = key});
}

j_dict *j_dict_copy(j_run *r, const j_dict *d) {
    j_dict *copy = j_dict_new(r, d->n);
    for (int i = 0; i < d->n && j_step(r, 0); i++) {
        j_dict_set(r, copy, d->entries[i].key, d->entries[i].value);
    }
    return copy;
}

j_value j_dict_value(j_dict *d) {
    return d ? (j_value){.kind = J_DICT, .as.dict = d} : (j_value){.kind = J_UNDEFINED};
}

j_value j_view_at(j_run *r, const j_view *v, int i) {
    const j_entry *e = &v->dict->entries[i];
    if (v->part == J_ITEMS) return j_pair(r, e->key, e->value);
    return v->part == J_KEYS ? e->key : e->value;
}
