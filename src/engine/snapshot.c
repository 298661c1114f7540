/* snapshot.c - sessions saved to a file, restored, forked.
 *
 *   file     := head turns recent pinned history held system logits pins ring checksum
 *   head     := u64 x N              struct head: what follows has sizes that follow from it
 *   turns    := u64 x n_turns        where the turns in the window began
 *   recent   := i32 x 1024           tokens for penalties and the loop guard
 *   pinned   := i32 x pins           ids
 *   history  := i32 x (pos - first)  ids, oldest first
 *   held     := byte x n_held        text a stop string may begin with
 *   system   := byte x system_bytes
 *   logits   := f32 x vocab          when has_logits
 *   pins     := row x pins           keys and values as the cache holds them (kv.h)
 *   ring     := row x (pos - first)  oldest first; neither in recompute mode
 *   checksum := u64                  FNV-1a of all before
 *
 * The size depends on the window, never on how long the session has run.  Numbers are
 * little-endian. A file is hostile: its size must be exactly what its head says, every number is
 * checked against the engine and against the others before the session is touched.
 *
 * Test: tests/engine/test_snapshot.c; fuzz/fuzz_session.c.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "base/file.h"
#include "base/unicode.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

enum {
    VERSION = 1,
    MAX_HELD = 1 << 20,   /* bytes a stop string can hold back */
    MAX_SYSTEM = 1 << 24, /* bytes of a system prompt */
    ROWS_AT_ONCE = 16,
};

static const char MAGIC[8] = {'w', 'e', 'i', 'r', 's', 'e', 's', 's'};

/* reply_open is 0, or 1 and the tokens of the reply that max_tokens counts. */
typedef struct head { /* u64 only: no padding, the same everywhere */
    uint64_t magic, version;
    uint64_t model, weights; /* fingerprint; weir_type of repacked weights */
    uint64_t kv_type, window, vocab, row_bytes, pin_bytes;
    uint64_t mode, policy, sinks, start, pos, first, pins, n_turns;
    uint64_t evicted_tokens, evicted_turns, melted;
    uint64_t rng, n_seen, n_reply;
    uint64_t has_logits, reply_open, reply_end, detok_bytes, detok_held, detok_started, n_held;
    uint64_t has_user, is_closed, last_token, asked_at, has_system, system_bytes;
    uint64_t prompt_tokens, generated_tokens, loops, prompt_ns, generate_ns;
} head;
_Static_assert(sizeof(head) % sizeof(uint64_t) == 0, "numbers of one size");

static bool has_rows(const head *h) {
    return h->mode != WEIR_RECOMPUTE;
}

static head describe(const weir_session *s) {
    const weir_engine *e = s->engine;
    const window *w = &s->window;
    const backend_api *api = e->backend->api;
    head h = {.version = VERSION,
              .model = e->fingerprint,
              .weights = (uint64_t)e->options.weights,
              .kv_type = (uint64_t)e->options.kv_type,
              .window = (uint64_t)w->size,
              .vocab = (uint64_t)e->plan->vocab,
              .row_bytes = api->row_bytes(e->backend, false),
              .pin_bytes = api->row_bytes(e->backend, true),
              .mode = (uint64_t)w->mode,
              .policy = (uint64_t)w->policy,
              .sinks = (uint64_t)w->sinks,
              .start = w->start,
              .pos = w->pos,
              .first = w->first,
              .pins = (uint64_t)w->pins,
              .n_turns = (uint64_t)w->n_turns,
              .evicted_tokens = w->evicted_tokens,
              .evicted_turns = w->evicted_turns,
              .melted = w->melted,
              .rng = s->sampler.state.rng.state,
              .n_seen = s->sampler.state.n_seen,
              .n_reply = s->sampler.state.n_reply,
              .has_logits = s->has_logits,
              .reply_open = s->reply.is_open ? (uint64_t)s->reply.n_tokens + 1 : 0,
              .reply_end = (uint64_t)s->reply.end,
              .detok_held = (uint64_t)s->reply.detokenizer.n_held,
              .detok_started = s->reply.detokenizer.started,
              .n_held = s->reply.stop.n_held - s->reply.stop.n_shown,
              .has_user = s->chat.has_user,
              .is_closed = s->chat.is_closed,
              .last_token = (uint64_t)(s->chat.last_token + 1),
              .asked_at = s->chat.asked_at,
              .has_system = s->chat.system != NULL,
              .system_bytes = s->chat.system ? strlen(s->chat.system) : 0,
              .prompt_tokens = s->counts.prompt_tokens,
              .generated_tokens = s->counts.generated_tokens,
              .loops = s->counts.loops,
              .prompt_ns = (uint64_t)(s->counts.prompt_seconds * 1e9),
              .generate_ns = (uint64_t)(s->counts.generate_seconds * 1e9)};
    memcpy(&h.magic, MAGIC, sizeof MAGIC);
    memcpy(&h.detok_bytes, s->reply.detokenizer.held, sizeof h.detok_bytes);
    return h;
}

/* ---- save */

typedef struct saver {
    file_writer file;
    uint64_t hash;
} saver;

static weir_status put(saver *f, const void *data, size_t size, weir_error *err) {
    f->hash = engine_hash(f->hash, data, size);
    return file_write(&f->file, data, size, err);
}

/* n rows from `row` on, a few at a time through memory of ROWS_AT_ONCE rows. */
static weir_status put_rows(saver *f, const weir_session *s, bool is_pin, int row, int n,
                            void *memory, weir_error *err) {
    backend *b = s->engine->backend;
    const int ring = engine_ring(s->engine);
    const size_t bytes = b->api->row_bytes(b, is_pin);
    for (int at = 0; at < n; at += ROWS_AT_ONCE) {
        const int m = MIN_OF(ROWS_AT_ONCE, n - at);
        const int from = is_pin ? row + at : (row + at) % ring;
        WEIR_TRY(b->api->export_rows(b, s->slot, is_pin, from, m, memory, err));
        WEIR_TRY(put(f, memory, (size_t)m * bytes, err));
    }
    return WEIR_OK;
}

static int ring_row(const weir_session *s, uint64_t pos) {
    return (int)(pos % (uint64_t)engine_ring(s->engine));
}

static weir_status put_history(saver *f, const weir_session *s, weir_error *err) {
    const window *w = &s->window;
    for (uint64_t pos = w->first; pos < w->pos; pos++) {
        WEIR_TRY(put(f, &s->history[pos % (uint64_t)w->size], sizeof *s->history, err));
    }
    return WEIR_OK;
}

static weir_status put_all(saver *f, const weir_session *s, void *memory, weir_error *err) {
    const window *w = &s->window;
    const head h = describe(s);
    WEIR_TRY(put(f, &h, sizeof h, err));
    WEIR_TRY(put(f, w->turns, (size_t)w->n_turns * sizeof *w->turns, err));
    WEIR_TRY(put(f, s->sampler.state.recent, sizeof s->sampler.state.recent, err));
    WEIR_TRY(put(f, s->pinned, (size_t)w->pins * sizeof *s->pinned, err));
    WEIR_TRY(put_history(f, s, err));
    const stop_filter *stop = &s->reply.stop;
    if (h.n_held) WEIR_TRY(put(f, stop->held + stop->n_shown, (size_t)h.n_held, err));
    if (h.system_bytes) WEIR_TRY(put(f, s->chat.system, (size_t)h.system_bytes, err));
    if (h.has_logits) WEIR_TRY(put(f, s->logits, (size_t)h.vocab * sizeof *s->logits, err));
    if (has_rows(&h)) {
        WEIR_TRY(put_rows(f, s, true, 0, w->pins, memory, err));
        WEIR_TRY(
            put_rows(f, s, false, ring_row(s, w->first), (int)(w->pos - w->first), memory, err));
    }
    const uint64_t hash = f->hash;
    return file_write(&f->file, &hash, sizeof hash, err);
}

static weir_status row_memory(const weir_session *s, void **out, weir_error *err) {
    const backend *b = s->engine->backend;
    const size_t bytes = MAX_OF(b->api->row_bytes(b, true), b->api->row_bytes(b, false));
    *out = mem_array(ROWS_AT_ONCE, bytes);
    return *out ? WEIR_OK
                : weir_fail(err, WEIR_ERR_MEMORY, "no memory for rows of %zu bytes", bytes);
}

weir_status weir_session_save(const weir_session *s, const char *path, weir_error *err) {
    WEIR_TRY(engine_check(s->engine, err));
    WEIR_TRY(session_settle(s, err));
    void *memory;
    WEIR_TRY(row_memory(s, &memory, err));
    saver f = {.hash = ENGINE_HASH};
    weir_status status = file_create(&f.file, path, err);
    if (status == WEIR_OK) {
        status = put_all(&f, s, memory, err);
        if (status == WEIR_OK) status = file_commit(&f.file, err);
        if (status != WEIR_OK) file_abandon(&f.file);
    }
    mem_free(memory);
    return status;
}

/* ---- restore: what a file says */

typedef struct parts { /* pointers into the mapped file, which need not be aligned */
    head h;
    const uint8_t *turns, *recent, *pinned, *history, *held, *system, *logits, *pins, *ring;
} parts;

/* Hands out the next size bytes; *left becomes SIZE_MAX once there were too few. */
static const uint8_t *cut(const uint8_t **at, size_t *left, size_t size) {
    if (*left == SIZE_MAX || size > *left) {
        *left = SIZE_MAX;
        return NULL;
    }
    const uint8_t *here = *at;
    *at += size;
    *left -= size;
    return here;
}

static weir_status split(parts *p, const mapped_file *file, const char *path, weir_error *err) {
    const uint8_t *at = file->data;
    size_t left = file->size;
    const uint8_t *first = cut(&at, &left, sizeof p->h);
    if (!first || memcmp(first, MAGIC, sizeof MAGIC) != 0) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: is not a saved session", path);
    }
    memcpy(&p->h, first, sizeof p->h);
    const head *h = &p->h;
    if (h->version != VERSION) {
        return weir_fail(err, WEIR_ERR_FORMAT,
                         "%s: is of version %" PRIu64 ", this weir reads version %d", path,
                         h->version, VERSION);
    }
    const uint64_t recent = h->pos - h->first;
    if (h->n_turns > WINDOW_TURNS || h->pins > (uint64_t)1 << 24 || recent > (uint64_t)1 << 24 ||
        h->n_held > MAX_HELD || h->system_bytes > MAX_SYSTEM || h->vocab > (uint64_t)1 << 24 ||
        h->row_bytes > (uint64_t)1 << 30 || h->pin_bytes > (uint64_t)1 << 30) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: is damaged: its sizes cannot be", path);
    }
    p->turns = cut(&at, &left, (size_t)h->n_turns * sizeof(uint64_t));
    p->recent = cut(&at, &left, SAMPLER_RECENT * sizeof(int32_t));
    p->pinned = cut(&at, &left, (size_t)h->pins * sizeof(int32_t));
    p->history = cut(&at, &left, (size_t)recent * sizeof(int32_t));
    p->held = cut(&at, &left, (size_t)h->n_held);
    p->system = cut(&at, &left, (size_t)h->system_bytes);
    p->logits = cut(&at, &left, h->has_logits ? (size_t)h->vocab * sizeof(float) : 0);
    p->pins = cut(&at, &left, has_rows(h) ? size_mul((size_t)h->pins, (size_t)h->pin_bytes) : 0);
    p->ring = cut(&at, &left, has_rows(h) ? size_mul((size_t)recent, (size_t)h->row_bytes) : 0);
    uint64_t checksum = 0;
    const uint8_t *last = cut(&at, &left, sizeof checksum);
    if (!last || left != 0) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: is damaged: %zu bytes are not what it says",
                         path, file->size);
    }
    memcpy(&checksum, last, sizeof checksum);
    if (checksum != engine_hash(ENGINE_HASH, file->data, file->size - sizeof checksum)) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: is damaged: its checksum is wrong", path);
    }
    return WEIR_OK;
}

/* Made by the same model, with the same settings? */
static weir_status check_origin(const weir_session *s, const head *h, const char *path,
                                weir_error *err) {
    const head own = describe(s);
    if (h->model != own.model || h->vocab != own.vocab) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "%s: was saved with another model", path);
    }
    if (h->weights != own.weights) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: was saved with weights of another type: open the model with the same "
                         "quantisation",
                         path);
    }
    if (h->kv_type != own.kv_type || h->row_bytes != own.row_bytes ||
        h->pin_bytes != own.pin_bytes) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "%s: was saved with another KV type", path);
    }
    if (h->window != own.window) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: was saved with a window of %" PRIu64 ", this engine has %" PRIu64,
                         path, h->window, own.window);
    }
    if (h->pins > (uint64_t)s->window.max_pins || h->sinks > (uint64_t)s->window.max_pins) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: has %" PRIu64 " pinned tokens, this engine keeps room for %d "
                         "(max_sinks)",
                         path, MAX_OF(h->pins, h->sinks), s->window.max_pins);
    }
    return WEIR_OK;
}

/* Could a window have come to be so?  What a window that is not would do is undefined. */
static bool is_sound_window(const head *h) {
    if (h->mode > WEIR_RECOMPUTE || h->policy > WEIR_EVICT_TURN) return false;
    if (h->start > h->first || h->first > h->pos || h->pos >= (uint64_t)1 << 63) return false;
    const uint64_t seen = h->pos - h->start, recent = h->pos - h->first;
    if (h->pins >= h->window || recent > h->window - h->pins) return false;
    if ((h->mode == WEIR_DENSE || h->mode == WEIR_WINDOW) && (h->sinks || h->pins)) return false;
    if (h->mode == WEIR_DENSE && h->first != h->start) return false;
    if (seen < h->sinks) return h->pins == seen && h->first == h->pos;
    return h->pins >= h->sinks;
}

static bool are_ids(const uint8_t *data, uint64_t n, uint64_t vocab) {
    for (uint64_t i = 0; i < n; i++) {
        int32_t id;
        memcpy(&id, data + i * sizeof id, sizeof id);
        if (id < 0 || (uint64_t)id >= vocab) return false;
    }
    return true;
}

static bool are_turns(const parts *p) {
    uint64_t before = 0;
    for (uint64_t i = 0; i < p->h.n_turns; i++) {
        uint64_t turn;
        memcpy(&turn, p->turns + i * sizeof turn, sizeof turn);
        if (turn < before || turn > p->h.pos) return false;
        before = turn;
    }
    return true;
}

/* The beginning of a character, as a detokenizer holds it back. */
static bool is_held_character(const head *h) {
    char bytes[sizeof h->detok_bytes];
    uint32_t code;
    if (h->detok_held == 0) return true;
    if (h->detok_held >= UTF8_MAX) return false;
    memcpy(bytes, &h->detok_bytes, sizeof bytes);
    utf8_decode(&code, bytes, (size_t)h->detok_held);
    return code == UTF8_PARTIAL;
}

static weir_status check_sound(const parts *p, const char *path, weir_error *err) {
    const head *h = &p->h;
    const bool sound =
        is_sound_window(h) && are_turns(p) && are_ids(p->pinned, h->pins, h->vocab) &&
        are_ids(p->history, h->pos - h->first, h->vocab) && h->last_token <= h->vocab &&
        is_held_character(h) && h->reply_end <= WEIR_END_INTERRUPT &&
        h->reply_open <= (uint64_t)INT_MAX + 1 && !memchr(p->system, 0, (size_t)h->system_bytes);
    if (sound) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_FORMAT, "%s: is damaged: its numbers contradict each other",
                     path);
}

/* Text that was held back must be what this session holds back, or it would be lost. */
static weir_status check_held(const weir_session *s, const parts *p, const char *path,
                              weir_error *err) {
    const char *shown;
    size_t n = 0;
    stop_filter f;
    if (!p->h.n_held) return WEIR_OK;
    WEIR_TRY(stop_init(&f, s->sampler.options.stops, WEIR_MAX_STOPS, err));
    stop_push(&f, (const char *)p->held, (size_t)p->h.n_held, &shown, &n);
    const bool is_lost = n > 0 || f.out_of_memory;
    stop_clear(&f);
    if (!is_lost) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_ARGUMENT,
                     "%s: was saved in the middle of a reply that had other stop strings: give the "
                     "session the same ones",
                     path);
}

/* ---- restore: into a session */

static weir_status take_rows(const weir_session *s, const parts *p, weir_error *err) {
    backend *b = s->engine->backend;
    const head *h = &p->h;
    if (!has_rows(h)) return WEIR_OK;
    if (h->pins) {
        WEIR_TRY(b->api->import_rows(b, s->slot, true, 0, (int)h->pins, p->pins, err));
    }
    const int n = (int)(h->pos - h->first);
    if (!n) return WEIR_OK;
    return b->api->import_rows(b, s->slot, false, ring_row(s, h->first), n, p->ring, err);
}

static void take_window(weir_session *s, const parts *p) {
    const head *h = &p->h;
    window *w = &s->window;
    w->mode = (weir_mode)h->mode;
    w->policy = (weir_policy)h->policy;
    w->sinks = (int)h->sinks;
    w->start = h->start;
    w->pos = h->pos;
    w->first = h->first;
    w->pins = (int)h->pins;
    w->n_turns = (int)h->n_turns;
    w->evicted_tokens = h->evicted_tokens;
    w->evicted_turns = h->evicted_turns;
    w->melted = h->melted;
    memcpy(w->turns, p->turns, (size_t)h->n_turns * sizeof *w->turns);
    memcpy(s->pinned, p->pinned, (size_t)h->pins * sizeof *s->pinned);
    for (uint64_t pos = h->first; pos < h->pos; pos++) {
        memcpy(&s->history[pos % h->window], p->history + (pos - h->first) * sizeof *s->history,
               sizeof *s->history);
    }
}

static void take_reply(weir_session *s, const parts *p) {
    const head *h = &p->h;
    reply *r = &s->reply;
    reply_close(r);
    r->is_open = h->reply_open != 0;
    r->n_tokens = r->is_open ? (int)(h->reply_open - 1) : 0;
    r->end = (weir_end)h->reply_end;
    r->detokenizer.n_held = (int)h->detok_held;
    r->detokenizer.started = h->detok_started != 0;
    memcpy(r->detokenizer.held, &h->detok_bytes, sizeof h->detok_bytes);
    /* Shorter than a stop of this session, see check_held: there is room. */
    stop_keep(&r->stop, (const char *)p->held, (size_t)h->n_held);
}

static void take_state(weir_session *s, const parts *p, char *system) {
    const head *h = &p->h;
    take_window(s, p);
    take_reply(s, p);
    s->sampler.state.rng.state = h->rng;
    s->sampler.state.n_seen = h->n_seen;
    s->sampler.state.n_reply = h->n_reply;
    memcpy(s->sampler.state.recent, p->recent, sizeof s->sampler.state.recent);
    s->has_logits = h->has_logits != 0;
    if (s->has_logits) memcpy(s->logits, p->logits, (size_t)h->vocab * sizeof *s->logits);
    chat_clear(&s->chat);
    s->chat = (chat){.system = system,
                     .has_user = h->has_user != 0,
                     .is_closed = h->is_closed != 0,
                     .last_token = (int32_t)h->last_token - 1,
                     .asked_at = h->asked_at};
    s->counts = (weir_session_stats){.prompt_tokens = h->prompt_tokens,
                                     .generated_tokens = h->generated_tokens,
                                     .loops = h->loops,
                                     .prompt_seconds = (double)h->prompt_ns * 1e-9,
                                     .generate_seconds = (double)h->generate_ns * 1e-9};
}

static weir_status restore(weir_session *s, const mapped_file *file, const char *path,
                           weir_error *err) {
    parts p = {0};
    WEIR_TRY(split(&p, file, path, err));
    WEIR_TRY(check_origin(s, &p.h, path, err));
    WEIR_TRY(check_sound(&p, path, err));
    WEIR_TRY(check_held(s, &p, path, err));
    char *system = NULL;
    if (p.h.has_system) {
        system = mem_alloc((size_t)p.h.system_bytes + 1);
        if (!system) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for the system prompt");
        memcpy(system, p.system, (size_t)p.h.system_bytes);
    }
    const weir_status status = take_rows(s, &p, err); /* fails only with the device */
    if (status != WEIR_OK) {
        mem_free(system);
        return status;
    }
    take_state(s, &p, system);
    return WEIR_OK;
}

weir_status weir_session_restore(weir_session *s, const char *path, weir_error *err) {
    WEIR_TRY(engine_check(s->engine, err));
    WEIR_TRY(session_settle(s, err));
    mapped_file file = {0};
    WEIR_TRY(file_map(&file, path, err));
    const weir_status status = restore(s, &file, path, err);
    file_unmap(&file);
    return status;
}

/* ---- fork */

static weir_status copy_rows(const weir_session *to, const weir_session *from, bool is_pin, int row,
                             int n, void *memory, weir_error *err) {
    backend *b = from->engine->backend;
    const int ring = engine_ring(from->engine);
    for (int at = 0; at < n; at += ROWS_AT_ONCE) {
        const int m = MIN_OF(ROWS_AT_ONCE, n - at);
        const int first = is_pin ? row + at : (row + at) % ring;
        WEIR_TRY(b->api->export_rows(b, from->slot, is_pin, first, m, memory, err));
        WEIR_TRY(b->api->import_rows(b, to->slot, is_pin, first, m, memory, err));
    }
    return WEIR_OK;
}

static weir_status copy_cache(const weir_session *to, const weir_session *from, weir_error *err) {
    const window *w = &from->window;
    if (w->mode == WEIR_RECOMPUTE) return WEIR_OK;
    void *memory;
    WEIR_TRY(row_memory(from, &memory, err));
    weir_status status = copy_rows(to, from, true, 0, w->pins, memory, err);
    if (status == WEIR_OK) {
        status = copy_rows(to, from, false, ring_row(from, w->first), (int)(w->pos - w->first),
                           memory, err);
    }
    mem_free(memory);
    return status;
}

static weir_status copy_chat(chat *to, const chat *from, weir_error *err) {
    *to = *from;
    if (!from->system) return WEIR_OK;
    const size_t size = strlen(from->system) + 1;
    to->system = mem_alloc(size);
    if (!to->system) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for the system prompt");
    memcpy(to->system, from->system, size);
    return WEIR_OK;
}

static void copy_state(weir_session *to, const weir_session *from) {
    const weir_engine *e = from->engine;
    to->window = from->window;
    to->sampler.state = from->sampler.state;
    to->counts = from->counts;
    to->has_logits = from->has_logits;
    memcpy(to->logits, from->logits, (size_t)e->plan->vocab * sizeof *to->logits);
    memcpy(to->history, from->history, (size_t)e->options.window * sizeof *to->history);
    memcpy(to->pinned, from->pinned, (size_t)e->options.max_sinks * sizeof *to->pinned);
    to->reply.is_open = from->reply.is_open;
    to->reply.end = from->reply.end;
    to->reply.n_tokens = from->reply.n_tokens;
    to->reply.detokenizer = from->reply.detokenizer;
}

static weir_status copy_held(stop_filter *to, const stop_filter *from, weir_error *err) {
    const size_t n = from->n_held - from->n_shown;
    if (!n || stop_keep(to, from->held + from->n_shown, n)) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_MEMORY, "no memory for the text that a reply holds back");
}

weir_status weir_session_fork(weir_session **out, const weir_session *from, weir_error *err) {
    *out = NULL;
    WEIR_TRY(session_settle(from, err));
    weir_session_options options = from->options;
    options.sampling = from->sampler.options;
    weir_session *to;
    WEIR_TRY(weir_session_open(&to, from->engine, &options, err));
    weir_status status = copy_cache(to, from, err);
    if (status == WEIR_OK) status = copy_chat(&to->chat, &from->chat, err);
    if (status == WEIR_OK) status = copy_held(&to->reply.stop, &from->reply.stop, err);
    if (status != WEIR_OK) {
        weir_session_close(to);
        return status;
    }
    copy_state(to, from);
    *out = to;
    return WEIR_OK;
}
