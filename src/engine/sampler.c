/* sampler.c - options, penalties and the order of the filters; draw.c does the drawing.
 *
 *     sampler_set      options checked, copied           cold
 *     sampler_accept   recent[n_seen % 1024] = id        once per token of the stream
 *     sampler_pick     reads recent, never writes it     once per token generated
 *
 * Bias and penalties touch few tokens: the biased ones and at most penalty_last recent ones, whose
 * occurrences are counted in an array over the vocabulary that is zero again afterwards.  They are
 * computed in double, where every product of two floats is exact: the result does not depend on
 * fused multiply-adds.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/sampler.h"

#include "base/arena.h"
#include "engine/draw.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { DEFAULT_PENALTY_LAST = 64 };

typedef struct sampler_work {
    draw draw;
    uint16_t *counts; /* [vocab] occurrences among the recent tokens; zero between picks */
    arena *copies;    /* bias and stops of the current options                           */
} work;
_Static_assert(SAMPLER_RECENT <= UINT16_MAX, "counts cannot overflow");

/* ---- options */

static weir_status check_range(const char *name, float x, float low, float high, weir_error *err) {
    if (x >= low && x <= high) return WEIR_OK; /* a NaN is not */
    return weir_fail(err, WEIR_ERR_ARGUMENT, "%s: is %g, wanted %g to %g", name, (double)x,
                     (double)low, (double)high);
}

static weir_status check_numbers(const weir_sampling *o, weir_error *err) {
    WEIR_TRY(check_range("temperature", o->temperature, 0, 100, err));
    WEIR_TRY(check_range("top_p", o->top_p, 0, 1, err));
    WEIR_TRY(check_range("min_p", o->min_p, 0, 1, err));
    WEIR_TRY(check_range("typical_p", o->typical_p, 0, 1, err));
    WEIR_TRY(check_range("repeat_penalty", o->repeat_penalty, 0, 100, err));
    WEIR_TRY(check_range("presence_penalty", o->presence_penalty, -100, 100, err));
    WEIR_TRY(check_range("frequency_penalty", o->frequency_penalty, -100, 100, err));
    if (o->top_k < 0) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "top_k: is %d, wanted 0 (off) or more", o->top_k);
    }
    if (o->max_tokens < 0) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "max_tokens: is %d, wanted 0 (no limit) or more",
                         o->max_tokens);
    }
    if (o->penalty_last < 0 || o->penalty_last > SAMPLER_RECENT) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "penalty_last: is %d, wanted 0 (%d) to %d",
                         o->penalty_last, DEFAULT_PENALTY_LAST, SAMPLER_RECENT);
    }
    return WEIR_OK;
}

static weir_status check_bias(const weir_sampling *o, int vocab, weir_error *err) {
    if (o->n_bias < 0 || (o->n_bias > 0 && (!o->bias_ids || !o->bias_values))) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "n_bias: is %d, wanted as many ids and values",
                         o->n_bias);
    }
    for (int i = 0; i < o->n_bias; i++) {
        const int32_t id = o->bias_ids[i];
        if (id < 0 || id >= vocab) {
            return weir_fail(err, WEIR_ERR_ARGUMENT, "bias: token %d, wanted 0 to %d", (int)id,
                             vocab - 1);
        }
        if (!(o->bias_values[i] < INFINITY)) { /* -infinity bans a token */
            return weir_fail(err, WEIR_ERR_ARGUMENT,
                             "bias: token %d gets %g, wanted a number or -inf", (int)id,
                             (double)o->bias_values[i]);
        }
    }
    return WEIR_OK;
}

/* The stop filter knows what a good stop is. */
static weir_status check_stops(const weir_sampling *o, weir_error *err) {
    stop_filter f;
    const weir_status status = stop_init(&f, o->stops, WEIR_MAX_STOPS, err);
    stop_clear(&f);
    return status;
}

static bool copy_stops(arena *a, weir_sampling *o) {
    for (int i = 0; i < WEIR_MAX_STOPS; i++) {
        if (!o->stops[i]) continue;
        o->stops[i] = arena_copy(a, o->stops[i], strlen(o->stops[i]));
        if (!o->stops[i]) return false;
    }
    return true;
}

static bool copy_bias(arena *a, weir_sampling *o) {
    const size_t n = (size_t)o->n_bias;
    if (n == 0) {
        o->bias_ids = NULL;
        o->bias_values = NULL;
        return true;
    }
    int32_t *ids = ARENA_ARRAY(a, int32_t, n);
    float *values = ARENA_ARRAY(a, float, n);
    if (!ids || !values) return false;
    memcpy(ids, o->bias_ids, n * sizeof *ids);
    memcpy(values, o->bias_values, n * sizeof *values);
    o->bias_ids = ids;
    o->bias_values = values;
    return true;
}

weir_status sampler_set(sampler *s, const weir_sampling *options, weir_error *err) {
    weir_sampling o = options ? *options : (weir_sampling){0};
    WEIR_TRY(check_numbers(&o, err));
    WEIR_TRY(check_bias(&o, s->vocab, err));
    WEIR_TRY(check_stops(&o, err));
    arena *copies = arena_new();
    if (!copies || !copy_bias(copies, &o) || !copy_stops(copies, &o)) {
        arena_free(copies);
        return weir_fail(err, WEIR_ERR_MEMORY, "sampler: out of memory");
    }
    if (o.penalty_last == 0) o.penalty_last = DEFAULT_PENALTY_LAST;
    if (o.repeat_penalty == 0.0f) o.repeat_penalty = 1;
    arena_free(s->work->copies);
    s->work->copies = copies;
    s->options = o;
    s->state.rng.state = o.seed;
    return WEIR_OK;
}

/* ---- life */

weir_status sampler_init(sampler *s, const weir_sampling *options, int vocab, weir_error *err) {
    *s = (sampler){.vocab = vocab};
    if (vocab <= 0 || vocab > DRAW_MAX_VOCAB) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "sampler: a vocabulary of %d, wanted 1 to %d",
                         vocab, DRAW_MAX_VOCAB);
    }
    s->work = mem_alloc(sizeof *s->work);
    if (s->work) s->work->counts = mem_array((size_t)vocab, sizeof *s->work->counts);
    if (!s->work || !s->work->counts || !draw_init(&s->work->draw, vocab)) {
        sampler_clear(s);
        return weir_fail(err, WEIR_ERR_MEMORY, "sampler: out of memory");
    }
    const weir_status status = sampler_set(s, options, err);
    if (status != WEIR_OK) sampler_clear(s);
    return status;
}

void sampler_clear(sampler *s) {
    if (s->work) {
        draw_clear(&s->work->draw);
        mem_free(s->work->counts);
        arena_free(s->work->copies);
        mem_free(s->work);
    }
    *s = (sampler){0};
}

/* ---- the stream */

void sampler_accept(sampler *s, int32_t id, bool generated) {
    s->state.recent[s->state.n_seen++ % SAMPLER_RECENT] = id;
    if (generated) s->state.n_reply++;
}

void sampler_begin_reply(sampler *s) {
    s->state.n_reply = 0;
}

/* ---- the next token */

static bool has_penalties(const weir_sampling *o) {
    return o->repeat_penalty != 1.0f || o->presence_penalty != 0.0f || o->frequency_penalty != 0.0f;
}

static void add_bias(sampler *s) {
    const weir_sampling *o = &s->options;
    draw *d = &s->work->draw;
    for (int i = 0; i < o->n_bias; i++) {
        const int32_t id = o->bias_ids[i];
        draw_set(d, id, (double)d->logits[id] + (double)o->bias_values[i]);
    }
}

/* The id seen back tokens ago (0 is the last), or -1 when a damaged snapshot holds a wrong one. */
static int32_t seen(const sampler *s, uint64_t back) {
    const int32_t id = s->state.recent[(s->state.n_seen - 1 - back) % SAMPLER_RECENT];
    return id >= 0 && id < s->vocab ? id : -1;
}

/* Repetition as in CTRL (Keskar et al. 2019, arXiv 1909.05858), presence and frequency as in the
 * OpenAI API.  The first pass counts, the second applies each count once and zeroes it. */
static void penalize(sampler *s) {
    const weir_sampling *o = &s->options;
    draw *d = &s->work->draw;
    uint16_t *counts = s->work->counts;
    const uint64_t last = (uint64_t)o->penalty_last;
    const uint64_t n = s->state.n_seen < last ? s->state.n_seen : last;
    for (uint64_t back = 0; back < n; back++) {
        const int32_t id = seen(s, back);
        if (id >= 0) counts[id]++;
    }
    for (uint64_t back = 0; back < n; back++) {
        const int32_t id = seen(s, back);
        if (id < 0 || counts[id] == 0) continue;
        const double repeat = (double)o->repeat_penalty;
        double x = (double)d->logits[id];
        x = x > 0 ? x / repeat : x * repeat;
        x -= (double)o->presence_penalty;
        x -= (double)o->frequency_penalty * counts[id];
        draw_set(d, id, x);
        counts[id] = 0;
    }
}

static int32_t draw_filtered(draw *d, float best, const weir_sampling *o, rng *generator) {
    draw_weigh(d, best, o->temperature);
    if (o->top_k > 0) draw_keep_best(d, o->top_k);
    if (o->typical_p > 0 && o->typical_p < 1) draw_keep_typical(d, o->typical_p);
    if (o->top_p > 0 && o->top_p < 1) draw_keep_mass(d, o->top_p);
    if (o->min_p > 0) draw_keep_likely(d, o->min_p);
    return draw_token(d, generator);
}

weir_status sampler_pick(sampler *s, const float *logits, int32_t *id, weir_error *err) {
    const weir_sampling *o = &s->options;
    draw *d = &s->work->draw;
    const bool changed = o->n_bias > 0 || has_penalties(o);
    if (changed) {
        draw_load_copy(d, logits);
        add_bias(s);
        if (has_penalties(o)) penalize(s);
        logits = d->logits;
    }
    *id = draw_argmax(logits, s->vocab);
    if (*id < 0) {
        return weir_fail(err, WEIR_ERR_DEVICE, "logits: none of %d is a number above -infinity",
                         s->vocab);
    }
    if (o->temperature == 0.0f) return WEIR_OK;
    if (logits[*id] > FLT_MAX) {
        draw_load_copy(d, logits);
    } else {
        draw_load(d, logits);
    }
    *id = draw_filtered(d, d->logits[*id], o, &s->state.rng);
    return WEIR_OK;
}

/* ---- drawn elsewhere */

_Static_assert((int)SAMPLER_RECENT <= (int)BATCH_RECENT, "a back end takes the longest list");

bool sampler_can_defer(const sampler *s) {
    const weir_sampling *o = &s->options;
    const bool is_typical = o->temperature > 0 && o->typical_p > 0 && o->typical_p < 1;
    return !is_typical && o->n_bias <= BATCH_BIASES;
}

batch_draw sampler_defer(const sampler *s, bool is_ahead, rng *after,
                         int32_t recent[SAMPLER_RECENT]) {
    const weir_sampling *o = &s->options;
    batch_draw out = {.how = o, .recent = recent};
    *after = s->state.rng;
    if (o->temperature > 0) out.uniform = rng_uniform(after);
    if (!has_penalties(o)) return out;
    if (is_ahead) recent[out.n_recent++] = BATCH_DRAWN;
    for (uint64_t back = 0; out.n_recent < o->penalty_last && back < s->state.n_seen; back++) {
        const int32_t id = seen(s, back); /* -1 would mean the one drawn */
        recent[out.n_recent++] = id < 0 ? INT32_MAX : id;
    }
    return out;
}
