/* draw.c - tokens drawn on the device: how, told to kernels/draw.cu; which, told to the engine.
 *
 * A step's draws lie behind its rows: | rows | wanted | draws | lists of each |.
 *
 * Test: tests/engine/test_cuda_draw.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include "base/octave.h"

#include <assert.h>
#include <string.h>

_Static_assert((int)CUDA_RECENT == (int)BATCH_RECENT && (int)CUDA_BIASES == (int)BATCH_BIASES &&
                   (int)CUDA_DIGITS == (int)OCTAVE_DIGITS &&
                   (int)CUDA_FRACTION_BITS == (int)OCTAVE_FRACTION_BITS &&
                   (int)CUDA_KEY_BITS == (int)OCTAVE_BITS &&
                   (int)CUDA_MAX_OCTAVES == (int)OCTAVE_MAX_WHOLE &&
                   (int)CUDA_WEIGHT_SHIFT == 62 - (int)OCTAVE_WEIGHT_BITS,
               "limits of stage.h, backend.h and octave.h");

int *cuda_tokens(const cuda *c, int turn) {
    return (int *)(void *)(c->host + c->tokens_at) + turn * c->layout.plan->max_wanted;
}

static cuda_draw draw_of(const batch_draw *d, int slot) {
    const weir_sampling *o = d->how;
    if (!o) return (cuda_draw){0};
    assert(d->n_recent <= CUDA_RECENT && o->n_bias <= CUDA_BIASES);
    return (cuda_draw){.scale = o->temperature > 0 ? octave_scale(o->temperature) : 0,
                       .uniform = d->uniform,
                       .top_p = o->top_p < 1 ? o->top_p : 0,
                       .min_p = o->min_p,
                       .repeat = o->repeat_penalty,
                       .presence = o->presence_penalty,
                       .frequency = o->frequency_penalty,
                       .top_k = o->top_k,
                       .n_recent = d->n_recent,
                       .n_bias = o->n_bias,
                       .slot = slot,
                       .is_on = 1};
}

static cuda_address pack(const cuda *c, char *to, size_t *at, const void *from, int n) {
    const cuda_address place = cuda_step_at(c) + *at;
    if (n) memcpy(to + *at, from, (size_t)n * 4);
    *at += (size_t)n * 4;
    return place;
}

void cuda_pack_draws(const cuda *c, const batch *b, char *to, size_t *at, cuda_world *w) {
    *at = (*at + 15) / 16 * 16;
    cuda_draw *draws = (cuda_draw *)(void *)(to + *at);
    w->draws = cuda_step_at(c) + *at;
    *at += (size_t)b->n_wanted * sizeof *draws;
    for (int i = 0; i < b->n_wanted; i++) {
        const batch_draw *d = &b->draws[i];
        draws[i] = draw_of(d, b->rows[b->wanted[i]].slot);
        if (!d->how) continue;
        draws[i].token = (cuda_address)(uintptr_t)(cuda_tokens(c, c->turn) + i);
        draws[i].recent = pack(c, to, at, d->recent, d->n_recent);
        draws[i].ids = pack(c, to, at, d->how->bias_ids, d->how->n_bias);
        draws[i].values = pack(c, to, at, d->how->bias_values, d->how->n_bias);
    }
}

weir_status cuda_launch_draws(cuda *c, cuda_world *w, weir_error *err) {
    void *arguments[] = {w};
    assert(w->n_wanted > 0);
    w->shares = MAX_OF(1, MIN_OF(c->device.n_blocks / w->n_wanted, (int)CUDA_SHARES));
    return cuda_launch(c, c->draw, w->n_wanted * w->shares, c->n_draw_threads, CUDA_DRAW_BYTES,
                       arguments, err);
}

weir_status cuda_drawn(backend *b, int back, int32_t *tokens, int n, weir_error *err) {
    cuda *c = cuda_of(b);
    assert(back >= 0 && back < CUDA_TURNS && n <= c->layout.plan->max_wanted);
    const int turn = (c->turn + CUDA_TURNS - back) % CUDA_TURNS;
    WEIR_TRY(cuda_device_enter(&c->device, err));
    WEIR_TRY(CUDA_CALL(&c->device, event_wait, err, c->done[turn]));
    memcpy(tokens, cuda_tokens(c, turn), (size_t)n * sizeof *tokens);
    return WEIR_OK;
}
