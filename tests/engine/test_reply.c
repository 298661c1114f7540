/* test_reply.c - replies: which text is shown, in which pieces, and why it ends.
 *
 * Most tests use models that say a script (support/tiny.h), so that every byte is known before.
 * The last one has a real model tell a story of several windows' length: that of tools/reference.py
 * (float64, 4 sinks, window 128, the likeliest token 1000 times).
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "support/sessions.h"
#include "support/tiny.h"

#include "base/rng.h"
#include "base/unicode.h"

#include <pthread.h>
#include <time.h>

#define ALPHABET "abcdefghijklmnopqrstuvwxyz"

enum { WINDOW = 64, ROOM = 1 << 14 };

typedef struct spoken { /* a reply, put together */
    char text[ROOM];
    size_t size;
    int tokens, pieces;
    weir_end end;
} spoken;

static weir_engine *open_model(const char *path, int sessions) {
    return engine_of(path, &(weir_engine_options){
                               .threads = 1, .sessions = sessions, .window = WINDOW, .chunk = 16});
}

static char *scripted(const char *script) {
    return tiny_make(&(tiny_model){.seed = 6, .dim = 64, .script = script});
}

/* Adds the next piece; false at the end of the reply. */
static bool hear(weir_session *s, spoken *r) {
    weir_text t;
    OK(weir_session_next(s, &t, &err));
    assert_true(utf8_is_valid(t.data, t.size));
    assert_in_range(r->size + t.size, 0, ROOM - 1);
    if (t.size) memcpy(r->text + r->size, t.data, t.size);
    r->size += t.size;
    r->text[r->size] = 0;
    r->tokens += t.tokens;
    r->pieces += t.size > 0;
    r->end = t.end;
    if (!t.size) assert_int_not_equal(t.end, WEIR_END_NONE);
    return t.size > 0;
}

static void hear_all(weir_session *s, spoken *r) {
    *r = (spoken){0};
    while (hear(s, r)) assert_in_range(r->tokens, 0, 5000);
}

/* ---- scripts */

static void check_script(const char *script, const char *const *stops, const char *wanted,
                         weir_end end, int tokens) {
    char *path = scripted(script);
    weir_engine *e = open_model(path, 1);
    weir_session_options o = {0};
    for (int i = 0; stops && stops[i]; i++) o.sampling.stops[i] = stops[i];
    weir_session *s = session_of(e, &o);
    for (int round = 0; round < 2; round++) { /* a reply leaves nothing behind for the next one */
        const int32_t first = TINY_EOS;
        feed(s, &first, 1);
        static spoken r;
        hear_all(s, &r);
        assert_string_equal(r.text, wanted);
        assert_int_equal(r.end, end);
        assert_int_equal(r.tokens, tokens);
        assert_int_equal(stats_of(s).generated_tokens, tokens * (round + 1));
    }
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

static void a_reply_is_the_script_until_its_end_token(void **state) {
    (void)state;
    check_script(ALPHABET, NULL, ALPHABET, WEIR_END_TURN, 27);
    check_script("x", NULL, "x", WEIR_END_TURN, 2);
}

static void characters_come_whole(void **state) {
    (void)state;
    check_script("a\xe2\x82\xac"
                 "b\xc3\xa9"
                 "c\xf0\x9f\x98\x80",
                 NULL,
                 "a\xe2\x82\xac"
                 "b\xc3\xa9"
                 "c\xf0\x9f\x98\x80",
                 WEIR_END_TURN, 13);
}

static void bytes_that_are_no_character_come_out_as_replacements(void **state) {
    (void)state;
    check_script("a\xe2\xc3\xa9", NULL, "a\xef\xbf\xbd\xc3\xa9", WEIR_END_TURN, 5);
    check_script("a\xf0\x9f", NULL, "a\xef\xbf\xbd", WEIR_END_TURN, 4); /* cut off by the end */
}

static void a_stop_string_ends_a_reply_and_never_shows(void **state) {
    (void)state;
    static const char *const one[] = {"ghi", NULL}, *const many[] = {"zz", "mnop", "lmn", NULL};
    static const char *const first[] = {"a", NULL}, *const last[] = {"xyz", NULL};
    check_script(ALPHABET, one, "abcdef", WEIR_END_STOP, 9);
    check_script(ALPHABET, many, "abcdefghijk", WEIR_END_STOP, 14);
    check_script(ALPHABET, first, "", WEIR_END_STOP, 1);
    check_script(ALPHABET, last, "abcdefghijklmnopqrstuvw", WEIR_END_STOP, 26);
}

static void what_was_held_for_a_stop_comes_when_the_turn_ends(void **state) {
    (void)state;
    static const char *const stops[] = {"yz!", "wxyz?", NULL};
    check_script(ALPHABET, stops, ALPHABET, WEIR_END_TURN, 27);
    static const char *const cut[] = {"b\xef\xbf\xbd!", NULL}; /* and what the detokenizer held */
    check_script("ab\xf0\x9f", cut, "ab\xef\xbf\xbd", WEIR_END_TURN, 5);
    static const char *const met[] = {"b\xef\xbf\xbd", NULL};
    check_script("ab\xf0\x9f", met, "a", WEIR_END_STOP, 5);
}

/* The words of r must be a beginning of wanted that holds no byte of what follows. */
static void check_beginning(const spoken *r, const char *wanted) {
    assert_true(r->size <= strlen(wanted));
    assert_memory_equal(r->text, wanted, r->size);
}

/* Stops cut from the script at random: what comes before the first that is complete is the reply,
 * and no piece goes beyond. */
static void any_set_of_stops_cuts_where_plain_search_finds_it(void **state) {
    (void)state;
    char *path = scripted(ALPHABET);
    weir_engine *e = open_model(path, 1);
    rng random = {12};
    for (int round = 0; round < 300; round++) {
        char stops[3][8], wanted[32] = ALPHABET;
        weir_session_options o = {0};
        size_t best_end = SIZE_MAX, best = strlen(wanted);
        for (int i = 0; i < 3; i++) {
            const size_t at = rng_next(&random) % 24, size = 1 + rng_next(&random) % 5;
            snprintf(stops[i], sizeof stops[i], "%.*s", (int)size, &ALPHABET[at]);
            const bool is_met = rng_next(&random) % 2;
            const size_t end = at + strlen(stops[i]);
            if (!is_met) stops[i][strlen(stops[i]) - 1] = '!';
            if (is_met && (end < best_end || (end == best_end && at < best))) {
                best_end = end;
                best = at;
            }
            o.sampling.stops[i] = stops[i];
        }
        wanted[best] = 0;
        weir_session *s = session_of(e, &o);
        feed(s, (const int32_t[]){TINY_EOS}, 1);
        static spoken r;
        r = (spoken){0};
        while (hear(s, &r)) check_beginning(&r, wanted);
        assert_string_equal(r.text, wanted);
        assert_int_equal(r.end, best_end == SIZE_MAX ? WEIR_END_TURN : WEIR_END_STOP);
        weir_session_close(s);
    }
    weir_engine_close(e);
    tiny_remove(path);
}

static void end_tokens_can_be_ignored_and_do_not_show(void **state) {
    (void)state;
    char *path = scripted("abc");
    weir_engine *e = open_model(path, 1);
    weir_session *s = session_of(
        e, &(weir_session_options){.sampling = {.ignore_eos = true, .no_loop_guard = true}});
    feed(s, (const int32_t[]){TINY_EOS}, 1);
    static spoken r;
    r = (spoken){0};
    for (int i = 0; i < 1500; i++) assert_true(hear(s, &r));
    assert_int_equal(r.end, WEIR_END_NONE);
    for (size_t i = 0; i < 1500; i++) assert_int_equal(r.text[i], "abc"[i % 3]);
    assert_int_equal(r.tokens, 1500 + 499);
    assert_int_equal(stats_of(s).loops, 0);
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

static void the_loop_guard_ends_what_repeats_itself(void **state) {
    (void)state;
    char *path = scripted("abc");
    weir_engine *e = open_model(path, 1);
    weir_session *s = session_of(e, &(weir_session_options){.sampling = {.ignore_eos = true}});
    static spoken r;
    for (int round = 1; round <= 2; round++) {
        feed(s, (const int32_t[]){TINY_EOS}, 1);
        hear_all(s, &r);
        assert_int_equal(r.end, WEIR_END_LOOP);
        assert_in_range(r.tokens, 256, 256 + 16);
        assert_int_equal(stats_of(s).loops, round);
    }
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

/* ---- interrupting */

static void an_interrupted_session_is_whole(void **state) {
    (void)state;
    static const char *const stops[] = {"fgh!", NULL};
    char *path = scripted(ALPHABET);
    weir_engine *e = open_model(path, 2);
    weir_session *a = session_of(e, &(weir_session_options){.sampling = {.stops = {stops[0]}}});
    weir_session *b = session_of(e, NULL);
    feed(a, (const int32_t[]){TINY_EOS}, 1);
    static spoken r;
    r = (spoken){0};
    while (r.size < 4) hear(a, &r);
    weir_session_interrupt(a);
    const int32_t said[] = {TINY_EOS, 'a', 'b', 'c', 'd'};
    feed(b, said, 5);
    assert_same_logits(a, b);
    assert_int_equal(stats_of(a).position, 5);
    feed(a, (const int32_t[]){'t'}, 1); /* the next reply knows nothing of the one before */
    hear_all(a, &r);
    assert_string_equal(r.text, "uvwxyz");
    feed(a, (const int32_t[]){'b'}, 1);
    for (r = (spoken){0}; r.size < 3;) hear(a, &r); /* "cde", and "fg" is held */
    feed(a, (const int32_t[]){'t'}, 1);             /* tokens that come in between end a reply */
    hear_all(a, &r);
    assert_string_equal(r.text, "uvwxyz");
    weir_session_interrupt(a); /* nothing to interrupt: the next reply does not know of it */
    feed(a, (const int32_t[]){'w'}, 1);
    hear_all(a, &r);
    assert_string_equal(r.text, "xyz");
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
    tiny_remove(path);
}

static void a_reply_is_cut_after_max_tokens_and_goes_on_from_there(void **state) {
    (void)state;
    static const char script[] = "a\xe2\x82\xac"
                                 "bcdefgh";
    char *path = scripted(script);
    weir_engine *e = open_model(path, 1);
    for (int most = 1; most <= 12; most++) {
        weir_session *s = session_of(
            e, &(weir_session_options){.sampling = {.max_tokens = most, .stops = {"cdefX"}}});
        feed(s, (const int32_t[]){TINY_EOS}, 1);
        static spoken r;
        spoken all = {0};
        do {
            hear_all(s, &r);
            assert_true(r.tokens == most || (r.tokens < most && r.end == WEIR_END_TURN));
            memcpy(all.text + all.size, r.text, r.size);
            all.size += r.size;
            all.tokens += r.tokens;
            const int bytes = MIN_OF(all.tokens, 11); /* half a character waits */
            assert_int_equal(all.size, bytes == 2 || bytes == 3 ? 1 : bytes);
        } while (r.end == WEIR_END_LENGTH);
        assert_int_equal(r.end, WEIR_END_TURN);
        assert_int_equal(all.tokens, 12);
        assert_string_equal(all.text, script);
        weir_session_close(s);
    }
    weir_engine_close(e);
    tiny_remove(path);
}

static void *interrupt_soon(void *session) {
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    weir_session_interrupt(session);
    return NULL;
}

/* The next piece, while another thread interrupts. */
static bool hear_interrupted(weir_session *s, spoken *r) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, s), 0);
    const bool has_text = hear(s, r);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return has_text;
}

/* "abcabcabc..." is held back as what might become a stop string. */
static void an_interrupt_gives_what_was_held_and_the_reply_goes_on_after_it(void **state) {
    (void)state;
    static char stop[3002];
    for (int i = 0; i < 3000; i++) stop[i] = "abc"[i % 3];
    stop[3000] = 'X';
    char *path = scripted("abc");
    weir_engine *e = open_model(path, 1);
    weir_session *s = session_of(
        e, &(weir_session_options){
               .sampling = {.ignore_eos = true, .no_loop_guard = true, .stops = {stop}}});
    feed(s, (const int32_t[]){TINY_EOS}, 1);
    static spoken r, more;
    r = (spoken){0};
    weir_session_interrupt(s); /* before it begins */
    assert_false(hear(s, &r));
    assert_int_equal(r.end, WEIR_END_INTERRUPT);
    assert_int_equal(r.tokens, 0);
    assert_true(hear_interrupted(s, &r));
    const size_t shown = r.size;
    assert_int_equal(r.size, r.tokens - r.tokens / 4); /* every fourth is the end token */
    weir_session_interrupt(s);
    assert_false(hear(s, &r));
    assert_int_equal(r.size, shown);
    more = (spoken){0};
    assert_true(hear_interrupted(s, &more));
    for (size_t i = 0; i < more.size; i++) {
        assert_int_equal(more.text[i], "abc"[(shown + i) % 3]);
    }
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

/* Tokens that show nothing, for ever. */
static void another_thread_interrupts_a_reply_that_shows_nothing(void **state) {
    (void)state;
    char *path = tiny_make(&(tiny_model){.seed = 2});
    weir_engine *e = open_model(path, 1);
    const int32_t silent = TINY_IM_START;
    const float always = 1e6f;
    weir_session *s = session_of(e, &(weir_session_options){.sampling = {.ignore_eos = true,
                                                                         .no_loop_guard = true,
                                                                         .bias_ids = &silent,
                                                                         .bias_values = &always,
                                                                         .n_bias = 1}});
    feed(s, (const int32_t[]){TINY_EOS}, 1);
    static spoken r;
    r = (spoken){0};
    assert_false(hear_interrupted(s, &r));
    assert_int_equal(r.end, WEIR_END_INTERRUPT);
    assert_true(r.tokens > 0 && r.size == 0);
    assert_int_equal(stats_of(s).generated_tokens, r.tokens);
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

/* ---- chance */

static void say_random(weir_session *s, spoken *r, int tokens) {
    *r = (spoken){0};
    feed(s, (const int32_t[]){TINY_BOS, 'H', 'i'}, 3);
    while (r->tokens < tokens) hear(s, r);
}

static void the_same_seed_gives_the_same_text(void **state) {
    (void)state;
    char *path = tiny_make(&(tiny_model){.seed = 21});
    weir_engine *e = open_model(path, 3);
    weir_session_options o = {.sampling = {.temperature = 1.2f, .seed = 7, .ignore_eos = true}};
    weir_session *a = session_of(e, &o), *b = session_of(e, &o);
    o.sampling.seed = 8;
    weir_session *c = session_of(e, &o);
    static spoken x, y, z;
    say_random(a, &x, 300);
    say_random(b, &y, 300);
    say_random(c, &z, 300);
    assert_string_equal(x.text, y.text);
    assert_string_not_equal(x.text, z.text);
    weir_session_reset(a);
    say_random(a, &y, 300);
    assert_string_equal(x.text, y.text);
    o.sampling.seed = 7;
    weir_session_reset(c);
    OK(weir_session_set_sampling(c, &o.sampling, &err));
    say_random(c, &y, 300);
    assert_string_equal(x.text, y.text);
    weir_session_close(a);
    weir_session_close(b);
    weir_session_close(c);
    weir_engine_close(e);
    tiny_remove(path);
}

/* Random bytes are mostly no characters: the pieces are what all tokens spell at once. */
static void pieces_add_up_to_what_the_tokens_spell(void **state) {
    (void)state;
    char *path = tiny_make(&(tiny_model){.seed = 22});
    weir_engine *e = engine_of(path, &(weir_engine_options){.threads = 1, .window = 600});
    weir_session *s = session_of(
        e,
        &(weir_session_options){
            .sampling = {.temperature = 3, .seed = 1, .ignore_eos = true, .no_loop_guard = true}});
    static spoken r;
    say_random(s, &r, 500);
    int32_t ids[600];
    size_t n = 0;
    for (uint64_t pos = 3; pos < s->window.pos; pos++) {
        const int32_t id = s->history[pos];
        if (id < 256 || id >= 268) ids[n++] = id; /* special tokens show nothing */
    }
    char *text;
    size_t size;
    OK(weir_detokenize(weir_engine_tokenizer(e), ids, n, &text, &size, &err));
    assert_in_range(r.size, 1, size);
    assert_memory_equal(text, r.text, r.size);
    assert_true(size - r.size <= 3); /* the character that is not whole yet */
    weir_free(text);
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

/* A full dense session draws nothing: with more room it would have gone on the same way. */
static void a_token_that_cannot_be_read_is_not_drawn(void **state) {
    (void)state;
    char *path = tiny_make(&(tiny_model){.seed = 23});
    weir_engine *e = open_model(path, 1);
    weir_session *s = session_of(
        e, &(weir_session_options){.mode = WEIR_DENSE, .sampling = {.temperature = 1, .seed = 4}});
    int32_t ids[WINDOW] = {0};
    feed(s, ids, WINDOW);
    const uint64_t before = s->sampler.state.rng.state;
    weir_text t;
    for (int i = 0; i < 3; i++) {
        REFUSED(weir_session_next(s, &t, &err), WEIR_ERR_FULL, "has room for 0 more");
        assert_int_equal(s->sampler.state.rng.state, before);
    }
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

static void text_in_front_gets_its_bos_and_is_read(void **state) {
    (void)state;
    char *path = scripted(ALPHABET);
    weir_engine *e = open_model(path, 1);
    weir_session *s = session_of(e, NULL);
    OK(weir_session_append(s, "<|eos|>mn", 9, &err)); /* spelled in text it is text */
    assert_int_equal(s->history[0], TINY_BOS);
    assert_int_equal(s->history[s->window.pos - 1], 'n');
    for (uint64_t pos = 0; pos < s->window.pos; pos++) assert_true(s->history[pos] != TINY_EOS);
    static spoken r;
    hear_all(s, &r);
    assert_string_equal(r.text, "opqrstuvwxyz");
    const uint64_t before = s->window.pos;
    OK(weir_session_append(s, "w", 1, &err));
    assert_int_equal(s->window.pos, before + 1); /* BOS only in front of everything */
    hear_all(s, &r);
    assert_string_equal(r.text, "xyz");
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

/* ---- a real model */

static void a_real_model_tells_the_story_of_its_reference(void **state) {
    (void)state;
    FILE *file = fopen(TEST_DATA "/stories260K.greedy.txt", "r");
    assert_non_null(file);
    static char wanted[ROOM];
    const size_t size = fread(wanted, 1, ROOM - 1, file);
    fclose(file);
    weir_engine *e;
    const weir_engine_options o = {.threads = 1, .window = 128, .kv_type = WEIR_F32};
    if (weir_engine_open(&e, SHARED_DATA "/models/stories260K", &o, NULL) != WEIR_OK) {
        print_message("skipped: no %s\n", SHARED_DATA "/models/stories260K");
        skip();
    }
    weir_session *s = session_of(e, &(weir_session_options){.sampling = {.no_loop_guard = true}});
    OK(weir_session_append(s, "Once upon a time", 16, &err));
    static spoken r;
    r = (spoken){0};
    while (r.size < size && hear(s, &r)) {
    }
    assert_int_equal(r.size, size);
    assert_string_equal(r.text, wanted);
    weir_session_close(s);
    weir_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply_is_the_script_until_its_end_token),
        cmocka_unit_test(characters_come_whole),
        cmocka_unit_test(bytes_that_are_no_character_come_out_as_replacements),
        cmocka_unit_test(a_stop_string_ends_a_reply_and_never_shows),
        cmocka_unit_test(what_was_held_for_a_stop_comes_when_the_turn_ends),
        cmocka_unit_test(any_set_of_stops_cuts_where_plain_search_finds_it),
        cmocka_unit_test(end_tokens_can_be_ignored_and_do_not_show),
        cmocka_unit_test(the_loop_guard_ends_what_repeats_itself),
        cmocka_unit_test(an_interrupted_session_is_whole),
        cmocka_unit_test(a_reply_is_cut_after_max_tokens_and_goes_on_from_there),
        cmocka_unit_test(an_interrupt_gives_what_was_held_and_the_reply_goes_on_after_it),
        cmocka_unit_test(another_thread_interrupts_a_reply_that_shows_nothing),
        cmocka_unit_test(the_same_seed_gives_the_same_text),
        cmocka_unit_test(pieces_add_up_to_what_the_tokens_spell),
        cmocka_unit_test(a_token_that_cannot_be_read_is_not_drawn),
        cmocka_unit_test(text_in_front_gets_its_bos_and_is_read),
        cmocka_unit_test(a_real_model_tells_the_story_of_its_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
