/* test_snapshot.c - a session that was saved and restored, or forked, goes on as if nothing had
 * been; a file that is not what it says is refused and changes nothing.
 *
 * SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700
#include "support/sessions.h"
#include "support/tiny.h"

#include "base/arena.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WINDOW = 24,
    CHUNK = 8,
    GO_ON = 1000,
    HEAD_WORDS = 41, /* 64-bit numbers a file begins with, see src/engine/snapshot.c */
    MAX_FILE = 1 << 20,
};

typedef struct place { /* a model, and a path to save to */
    char *model, *file;
} place;

static weir_engine_options small(void) {
    return (weir_engine_options){
        .threads = 1, .sessions = 3, .window = WINDOW, .chunk = CHUNK, .max_sinks = 12};
}

static int write_file(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    const size_t n = fwrite(data, 1, size, file);
    return fclose(file) == 0 && n == size;
}

static size_t read_file(const char *path, uint8_t *data) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t n = fread(data, 1, MAX_FILE, file);
    fclose(file);
    return n;
}

/* Makes the checksum of a changed file right again. */
static void seal(uint8_t *data, size_t size) {
    const uint64_t hash = engine_hash(ENGINE_HASH, data, size - sizeof hash);
    memcpy(data + size - sizeof hash, &hash, sizeof hash);
}

static void mark(weir_session *s) {
    if (s->window.policy == WEIR_EVICT_TURN) window_mark_turn(&s->window);
}

/* ---- nothing happened */

/* n tokens are drawn by each of three sessions: logits, tokens and generators are the same. */
static void go_on(weir_session *a, weir_session *b, weir_session *c, int n) {
    weir_session *const all[] = {a, b, c};
    for (int i = 0; i < n; i++) {
        int32_t ids[3];
        for (int k = 0; k < 3; k++) {
            OK(weir_session_sample(all[k], &ids[k], &err));
            if (i % 7 == 6) mark(all[k]);
            feed(all[k], &ids[k], 1);
        }
        assert_int_equal(ids[1], ids[0]);
        assert_int_equal(ids[2], ids[0]);
        assert_same_logits(b, a);
        assert_same_logits(c, a);
    }
}

static void check_same_stats(const weir_session *a, const weir_session *b) {
    weir_session_stats x = stats_of(a), y = stats_of(b);
    x.prompt_seconds = y.prompt_seconds = x.generate_seconds = y.generate_seconds = 0;
    assert_memory_equal(&x, &y, sizeof x);
}

/* Saves s, restores it into a session of another engine, forks it, and lets all three go on. */
static void check_no_op(weir_session *s, weir_engine *other, const place *p, int n) {
    for (int32_t i = 0, id; i < 3 && weir_session_logits(s); i++) {
        OK(weir_session_sample(s, &id, &err)); /* the generator is no longer at its seed */
    }
    OK(weir_session_save(s, p->file, &err));
    weir_session_options o = s->options;
    o.sampling = s->sampler.options;
    weir_session *restored = session_of(other, &o), *forked;
    feed(restored, (const int32_t[]){9, 8, 7, 6, 5, 4, 3, 2, 1}, 9); /* all of this goes */
    OK(weir_session_restore(restored, p->file, &err));
    OK(weir_session_fork(&forked, s, &err));
    check_same_stats(s, restored);
    check_same_stats(s, forked);
    assert_int_equal(weir_session_logits(restored) != NULL, weir_session_logits(s) != NULL);
    if (!weir_session_logits(s)) {
        weir_session *const all[] = {s, restored, forked};
        for (int i = 0; i < 3; i++) feed(all[i], (const int32_t[]){TINY_BOS}, 1);
    }
    go_on(s, restored, forked, n);
    check_same_stats(s, restored);
    check_same_stats(s, forked);
    weir_session_close(restored);
    weir_session_close(forked);
}

static void check_moments(const place *p, weir_type kv_type, weir_session_options o) {
    static const int moments[] = {0, 2, 4, WINDOW - 1, WINDOW, WINDOW + 1, 61, 500};
    int32_t ids[500];
    random_ids(ids, 500, TINY_VOCAB, 77);
    weir_engine_options options = small();
    options.kv_type = kv_type;
    weir_engine *e = engine_of(p->model, &options), *other = engine_of(p->model, &options);
    o.sampling = (weir_sampling){.temperature = 1, .seed = 3, .frequency_penalty = 0.5f};
    for (size_t i = 0; i < COUNT_OF(moments); i++) {
        weir_session *s = session_of(e, &o);
        int n = moments[i] > WINDOW ? GO_ON : 100;
        if (o.mode == WEIR_RECOMPUTE) n = 50; /* each token reads the window */
        if (o.mode == WEIR_DENSE) n = WINDOW - moments[i] - 1;
        if (n >= 0) {
            feed(s, ids, moments[i] / 2);
            mark(s);
            feed(s, ids + moments[i] / 2, moments[i] - moments[i] / 2);
            check_no_op(s, other, p, n);
        }
        weir_session_close(s);
    }
    weir_engine_close(e);
    weir_engine_close(other);
}

static void saving_restoring_and_forking_change_nothing(void **state) {
    static const weir_type types[] = {WEIR_F32, WEIR_F16, WEIR_BF16, WEIR_INT8, WEIR_FP8};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        check_moments(*state, types[i], (weir_session_options){0});
        check_moments(*state, types[i], (weir_session_options){.policy = WEIR_EVICT_TURN});
    }
    check_moments(*state, WEIR_F16, (weir_session_options){.mode = WEIR_DENSE});
    check_moments(*state, WEIR_F16, (weir_session_options){.mode = WEIR_WINDOW});
    check_moments(*state, WEIR_F16, (weir_session_options){.mode = WEIR_RECOMPUTE, .sinks = 3});
    check_moments(*state, WEIR_INT8,
                  (weir_session_options){.sinks = WEIR_NO_SINKS, .start = (uint64_t)1 << 40});
}

static void pinned_tokens_come_back_too(void **state) {
    const place *p = *state;
    int32_t ids[100];
    random_ids(ids, 100, TINY_VOCAB, 78);
    static const weir_type types[] = {WEIR_F32, WEIR_F16, WEIR_BF16, WEIR_INT8, WEIR_FP8};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        weir_engine_options o = small();
        o.kv_type = types[i];
        weir_engine *e = engine_of(p->model, &o), *other = engine_of(p->model, &o);
        weir_session *s = session_of(e, &(weir_session_options){.policy = WEIR_EVICT_TURN});
        feed(s, ids, 50);
        OK(weir_session_pin(s, 40, 45, &err));
        check_no_op(s, other, p, 100);
        const uint64_t last = s->window.pos;
        OK(weir_session_pin(s, last - 3, last, &err));
        check_no_op(s, other, p, GO_ON);
        assert_int_equal(stats_of(s).pinned, 12);
        weir_session_close(s);
        weir_engine_close(e);
        weir_engine_close(other);
    }
}

/* Another chunk is another ring: the same rows lie in other places. */
static void an_engine_of_another_chunk_goes_on_from_the_same_point(void **state) {
    const place *p = *state;
    int32_t ids[200];
    random_ids(ids, 200, TINY_VOCAB, 79);
    weir_engine_options o = small();
    o.kv_type = WEIR_F32;
    weir_engine *e = engine_of(p->model, &o);
    o.chunk = 13;
    weir_engine *other = engine_of(p->model, &o);
    weir_session *a = session_of(e, NULL), *b = session_of(other, NULL);
    feed(a, ids, 100);
    OK(weir_session_save(a, p->file, &err));
    OK(weir_session_restore(b, p->file, &err));
    for (int i = 100; i < 200; i++) {
        feed(a, &ids[i], 1);
        feed(b, &ids[i], 1);
        assert_true(row_error(weir_session_logits(b), weir_session_logits(a), TINY_VOCAB) < 1e-5);
    }
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
    weir_engine_close(other);
}

/* ---- in the middle of a reply */

typedef struct spoken {
    char text[4096];
    size_t size;
    weir_end end;
} spoken;

static bool hear(weir_session *s, spoken *r) {
    weir_text t;
    OK(weir_session_next(s, &t, &err));
    assert_in_range(r->size + t.size, 0, sizeof r->text - 1);
    if (t.size) memcpy(r->text + r->size, t.data, t.size);
    r->size += t.size;
    r->text[r->size] = 0;
    r->end = t.end;
    return t.size > 0;
}

/* Saved after each piece of a reply, restored and forked: what follows is the same. */
static void check_reply(const place *p, const char *script, const weir_sampling *sampling,
                        const char *wanted, weir_end end) {
    char *path = tiny_make(&(tiny_model){.seed = 6, .dim = 64, .script = script});
    const weir_engine_options options = small();
    weir_engine *e = engine_of(path, &options);
    const weir_session_options o = {.sampling = *sampling};
    int held = 0;
    for (int cut = 0; cut < 30; cut++) {
        weir_session *a = session_of(e, &o), *b = session_of(e, &o), *c;
        feed(a, (const int32_t[]){TINY_EOS}, 1);
        spoken x = {0};
        for (int i = 0; i < cut && hear(a, &x); i++) {
        }
        held += a->reply.stop.n_held > a->reply.stop.n_shown || a->reply.detokenizer.n_held > 0;
        OK(weir_session_save(a, p->file, &err));
        OK(weir_session_restore(b, p->file, &err));
        OK(weir_session_fork(&c, a, &err));
        spoken y = x, z = x;
        if (a->reply.is_open) {
            while (hear(b, &y)) {
            }
            while (hear(c, &z)) {
            }
            assert_string_equal(y.text, wanted);
            assert_string_equal(z.text, wanted);
            assert_int_equal(y.end, end);
            assert_int_equal(z.end, end);
        }
        weir_session_close(a);
        weir_session_close(b);
        weir_session_close(c);
    }
    assert_true(held > 0);
    weir_engine_close(e);
    tiny_remove(path);
}

static void a_reply_goes_on_with_what_was_held_back(void **state) {
    const weir_sampling stops = {.stops = {"cdX", "deY", "efgZ", "vwx"}};
    check_reply(*state, "abcdefghijklmnopqrstuvwxyz", &stops, "abcdefghijklmnopqrstu",
                WEIR_END_STOP);
    const weir_sampling none = {0};
    check_reply(*state, "a\xe2\xc3\xa9z", &none, "a\xef\xbf\xbd\xc3\xa9z", WEIR_END_TURN);
}

/* The tokens that a reply still takes until max_tokens cut it. */
static int tokens_left(weir_session *s) {
    int n = 0;
    for (weir_text t = {.size = 1}; t.size; n += t.tokens) OK(weir_session_next(s, &t, &err));
    return n;
}

static void what_is_left_of_max_tokens_is_kept(void **state) {
    const place *p = *state;
    char *path =
        tiny_make(&(tiny_model){.seed = 6, .dim = 64, .script = "abcdefghijklmnopqrstuvwxyz"});
    const weir_engine_options options = small();
    weir_engine *e = engine_of(path, &options);
    const weir_session_options o = {.sampling = {.max_tokens = 10}};
    weir_session *a = session_of(e, &o), *b = session_of(e, &o), *c;
    weir_text t;
    feed(a, (const int32_t[]){TINY_EOS}, 1);
    for (int i = 0; i < 3; i++) OK(weir_session_next(a, &t, &err));
    OK(weir_session_save(a, p->file, &err));
    OK(weir_session_restore(b, p->file, &err));
    OK(weir_session_fork(&c, a, &err));
    assert_int_equal(tokens_left(a), 7);
    assert_int_equal(tokens_left(b), 7);
    assert_int_equal(tokens_left(c), 7);
    assert_int_equal(tokens_left(b), 10); /* cut, it goes on with as many again */
    weir_session_close(a);
    weir_session_close(b);
    weir_session_close(c);
    weir_engine_close(e);
    tiny_remove(path);
}

/* After "abc", with "de" held, there are other stops, or none: a stop that lies in what is held
 * comes too late, one that begins there does not. */
static void text_that_is_held_outlives_its_stop_strings(void **state) {
    (void)state;
    static const struct {
        const char *stop, *text;
        weir_end end;
    } cases[] = {{NULL, "abcdefghijkl", WEIR_END_TURN}, {"deY", "abcdefghijkl", WEIR_END_TURN},
                 {"d", "abcdefghijkl", WEIR_END_TURN},  {"X", "abcdefghijkl", WEIR_END_TURN},
                 {"defg", "abc", WEIR_END_STOP},        {"efg", "abcd", WEIR_END_STOP},
                 {"fg", "abcde", WEIR_END_STOP}};
    char *path = tiny_make(&(tiny_model){.seed = 6, .dim = 64, .script = "abcdefghijkl"});
    const weir_engine_options options = small();
    weir_engine *e = engine_of(path, &options);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        weir_session *a =
            session_of(e, &(weir_session_options){.sampling = {.stops = {"cdX", "deY"}}});
        weir_session *b;
        feed(a, (const int32_t[]){TINY_EOS}, 1);
        spoken x = {0};
        while (x.size < 3) hear(a, &x);
        OK(weir_session_set_sampling(a, &(weir_sampling){.stops = {cases[i].stop}}, &err));
        OK(weir_session_fork(&b, a, &err));
        spoken y = x;
        while (hear(a, &x)) {
        }
        while (hear(b, &y)) {
        }
        assert_string_equal(x.text, cases[i].text);
        assert_string_equal(y.text, cases[i].text);
        assert_int_equal(x.end, cases[i].end);
        assert_int_equal(y.end, cases[i].end);
        weir_session_close(a);
        weir_session_close(b);
    }
    weir_engine_close(e);
    tiny_remove(path);
}

static void text_held_for_other_stop_strings_is_not_lost_in_silence(void **state) {
    const place *p = *state;
    char *path =
        tiny_make(&(tiny_model){.seed = 6, .dim = 64, .script = "abcdefghijklmnopqrstuvwxyz"});
    const weir_engine_options options = small();
    weir_engine *e = engine_of(path, &options);
    weir_session *a = session_of(e, &(weir_session_options){.sampling = {.stops = {"cdX", "deY"}}});
    weir_session *b = session_of(e, NULL);
    feed(a, (const int32_t[]){TINY_EOS}, 1);
    spoken r = {0};
    while (r.size < 3) hear(a, &r); /* "abc", "de" is held */
    OK(weir_session_save(a, p->file, &err));
    REFUSED(weir_session_restore(b, p->file, &err), WEIR_ERR_ARGUMENT,
            "was saved in the middle of a reply that had other stop strings");
    weir_session_interrupt(a);
    while (hear(a, &r)) {
    }
    OK(weir_session_save(a, p->file, &err));
    OK(weir_session_restore(b, p->file, &err));
    assert_same_logits(a, b);
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
    tiny_remove(path);
}

/* ---- the file */

static long size_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (long)st.st_size;
}

static void a_file_depends_on_the_window_and_not_on_the_history(void **state) {
    const place *p = *state;
    int32_t ids[1000];
    random_ids(ids, 1000, TINY_VOCAB, 80);
    weir_engine_options o = small();
    long sizes[2];
    for (int k = 0; k < 2; k++) {
        o.window = WINDOW << k;
        weir_engine *e = engine_of(p->model, &o);
        weir_session *s = session_of(e, NULL);
        feed(s, ids, 100);
        OK(weir_session_save(s, p->file, &err));
        sizes[k] = size_of(p->file);
        for (int i = 0; i < 20; i++) feed(s, ids, 1000);
        OK(weir_session_save(s, p->file, &err));
        assert_int_equal(size_of(p->file), sizes[k]);
        weir_engine_info info;
        weir_engine_get_info(e, &info);
        assert_true((uint64_t)sizes[k] < info.session_bytes + (1 << 14));
        weir_session_close(s);
        weir_engine_close(e);
    }
    assert_true(sizes[1] > sizes[0]);
}

/* A session that a file is tried on, and its twin that nothing is tried on. */
typedef struct target {
    weir_engine *engine;
    weir_session *session, *twin;
} target;

static void open_target(target *t, const char *model, const weir_engine_options *o) {
    t->engine = engine_of(model, o);
    t->session = session_of(t->engine, NULL);
    t->twin = session_of(t->engine, NULL);
    int32_t ids[40];
    random_ids(ids, 40, TINY_VOCAB, 81);
    feed(t->session, ids, 40);
    feed(t->twin, ids, 40);
}

static void close_target(target *t) {
    weir_session_close(t->session);
    weir_session_close(t->twin);
    weir_engine_close(t->engine);
}

/* Whatever was refused has left no trace. */
static void check_untouched(target *t) {
    weir_session_stats x = stats_of(t->session), y = stats_of(t->twin);
    assert_int_equal(x.position, y.position);
    assert_int_equal(x.evicted_tokens, y.evicted_tokens);
    for (int i = 0; i < 40; i++) {
        assert_same_logits(t->session, t->twin);
        int32_t id;
        generate_greedy(t->session, &id, 1);
        feed(t->twin, &id, 1);
    }
}

static void save_some(const place *p, const weir_engine_options *o) {
    weir_engine *e = engine_of(p->model, o);
    weir_session *s = session_of(e, NULL);
    int32_t ids[60];
    random_ids(ids, 60, TINY_VOCAB, 82);
    feed(s, ids, 60);
    OK(weir_session_pin(s, 50, 54, &err));
    OK(weir_session_save(s, p->file, &err));
    weir_session_close(s);
    weir_engine_close(e);
}

static void check_refused(const place *p, const char *model, const weir_engine_options *o,
                          const char *words) {
    target t;
    open_target(&t, model, o);
    REFUSED(weir_session_restore(t.session, p->file, &err), WEIR_ERR_ARGUMENT, words);
    REFUSED(weir_session_restore(t.session, p->file, &err), WEIR_ERR_ARGUMENT, p->file);
    check_untouched(&t);
    close_target(&t);
}

static void a_file_of_another_model_or_setting_is_refused(void **state) {
    const place *p = *state;
    const weir_engine_options same = small();
    weir_engine_options o = same;
    save_some(p, &same);
    char *other = tiny_make(&(tiny_model){.seed = 2}),
         *deep = tiny_make(&(tiny_model){.seed = 1, .n_layers = 3});
    check_refused(p, other, &same, "was saved with another model");
    check_refused(p, deep, &same, "was saved with another model");
    o.window = 32;
    check_refused(p, p->model, &o, "was saved with a window of 24, this engine has 32");
    o = same;
    o.kv_type = WEIR_BF16;
    check_refused(p, p->model, &o, "was saved with another KV type");
    o.kv_type = WEIR_INT8;
    check_refused(p, p->model, &o, "was saved with another KV type");
    o = same;
    o.weights = WEIR_Q8;
    check_refused(p, p->model, &o, "was saved with weights of another type");
    o = same;
    o.max_sinks = 7;
    check_refused(p, p->model, &o, "has 8 pinned tokens, this engine keeps room for 7 (max_sinks)");
    tiny_remove(other);
    tiny_remove(deep);
}

static void a_file_damaged_anywhere_is_refused(void **state) {
    const place *p = *state;
    static uint8_t data[MAX_FILE];
    const weir_engine_options o = small();
    save_some(p, &o);
    const size_t size = read_file(p->file, data);
    target t;
    open_target(&t, p->model, &o);
    for (size_t i = 0; i < size; i += i < HEAD_WORDS * 8 || i + 64 > size ? 1 : 37) {
        const uint8_t flip = (uint8_t)(1u << i % 8);
        data[i] ^= flip;
        assert_true(write_file(p->file, data, size));
        REFUSED(weir_session_restore(t.session, p->file, &err), WEIR_ERR_FORMAT, p->file);
        data[i] ^= flip;
    }
    check_untouched(&t);
    assert_true(write_file(p->file, data, size));
    OK(weir_session_restore(t.session, p->file, &err));
    close_target(&t);
}

static void a_file_of_another_length_is_refused(void **state) {
    const place *p = *state;
    static uint8_t data[MAX_FILE];
    const weir_engine_options o = small();
    save_some(p, &o);
    const size_t size = read_file(p->file, data);
    target t;
    open_target(&t, p->model, &o);
    REFUSED(weir_session_restore(t.session, "/nowhere/at/all", &err), WEIR_ERR_IO, "/nowhere");
    assert_true(write_file(p->file, data, size + 1));
    REFUSED(weir_session_restore(t.session, p->file, &err), WEIR_ERR_FORMAT, "is damaged: ");
    for (size_t n = size; n-- > 0;) {
        assert_int_equal(truncate(p->file, (off_t)n), 0);
        REFUSED(weir_session_restore(t.session, p->file, &err), WEIR_ERR_FORMAT, p->file);
    }
    check_untouched(&t);
    close_target(&t);
}

/* Numbers that no session has, under a checksum that is right: refused, or harmless. */
static void numbers_that_contradict_each_other_do_no_harm(void **state) {
    const place *p = *state;
    static const uint64_t values[] = {0,
                                      1,
                                      3,
                                      23,
                                      24,
                                      25,
                                      (uint64_t)1 << 31,
                                      (uint64_t)1 << 32,
                                      ((uint64_t)1 << 63) - 1,
                                      (uint64_t)1 << 63,
                                      UINT64_MAX};
    static uint8_t data[MAX_FILE];
    const weir_engine_options o = small();
    save_some(p, &o);
    const size_t size = read_file(p->file, data);
    weir_engine *e = engine_of(p->model, &o);
    weir_session *s = session_of(e, NULL);
    int accepted = 0;
    for (size_t word = 0; word < HEAD_WORDS; word++) {
        uint64_t old;
        memcpy(&old, data + 8 * word, sizeof old);
        for (size_t i = 0; i < COUNT_OF(values); i++) {
            memcpy(data + 8 * word, &values[i], sizeof old);
            seal(data, size);
            assert_true(write_file(p->file, data, size));
            weir_session_reset(s);
            if (weir_session_restore(s, p->file, NULL) != WEIR_OK) continue;
            accepted++;
            weir_text text;
            for (int k = 0; k < 2 * WINDOW; k++) {
                if (weir_session_next(s, &text, NULL) != WEIR_OK) break;
            }
            assert_true(stats_of(s).in_window <= WINDOW);
        }
        memcpy(data + 8 * word, &old, sizeof old);
    }
    assert_in_range(accepted, 1, HEAD_WORDS * (int)COUNT_OF(values));
    weir_session_close(s);
    weir_engine_close(e);
}

/* ---- written whole or not at all */

static int count_files(const char *folder) {
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static void a_file_is_written_whole_or_not_at_all(void **state) {
    const place *p = *state;
    static uint8_t before[MAX_FILE], after[MAX_FILE];
    const weir_engine_options o = small();
    weir_engine *e = engine_of(p->model, &o);
    weir_session *s = session_of(e, NULL);
    feed(s, (const int32_t[]){1, 2, 3}, 3);
    REFUSED(weir_session_save(s, "/nowhere/at/all", &err), WEIR_ERR_IO, "/nowhere/at/all");
    char *folder = tiny_path(), path[4096];
    assert_int_equal(mkdir(folder, 0777), 0);
    snprintf(path, sizeof path, "%s/config.json", folder); /* tiny_remove knows the name */
    OK(weir_session_save(s, path, &err));
    const size_t size = read_file(path, before);
    assert_int_equal(count_files(folder), 3);

    struct rlimit old, none;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    none = old;
    none.rlim_cur = 1024;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    feed(s, (const int32_t[]){4, 5, 6}, 3);
    REFUSED(weir_session_save(s, path, &err), WEIR_ERR_IO, path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(count_files(folder), 3); /* no half file beside it */
    assert_int_equal(read_file(path, after), size);
    assert_memory_equal(before, after, size);

    OK(weir_session_save(s, path, &err));
    assert_true(read_file(path, after) > size);
    tiny_remove(folder);
    weir_session_close(s);
    weir_engine_close(e);
}

static int make_place(void **state) {
    static place p;
    p.model = tiny_make(&(tiny_model){.seed = 1});
    p.file = tiny_path();
    *state = &p;
    return 0;
}

static int remove_place(void **state) {
    place *p = *state;
    tiny_remove(p->model);
    tiny_remove(p->file);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saving_restoring_and_forking_change_nothing),
        cmocka_unit_test(pinned_tokens_come_back_too),
        cmocka_unit_test(an_engine_of_another_chunk_goes_on_from_the_same_point),
        cmocka_unit_test(a_reply_goes_on_with_what_was_held_back),
        cmocka_unit_test(what_is_left_of_max_tokens_is_kept),
        cmocka_unit_test(text_that_is_held_outlives_its_stop_strings),
        cmocka_unit_test(text_held_for_other_stop_strings_is_not_lost_in_silence),
        cmocka_unit_test(a_file_depends_on_the_window_and_not_on_the_history),
        cmocka_unit_test(a_file_of_another_model_or_setting_is_refused),
        cmocka_unit_test(a_file_damaged_anywhere_is_refused),
        cmocka_unit_test(a_file_of_another_length_is_refused),
        cmocka_unit_test(numbers_that_contradict_each_other_do_no_harm),
        cmocka_unit_test(a_file_is_written_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
