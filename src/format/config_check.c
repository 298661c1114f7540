/* config_check.c - the bounds every configuration must keep, whichever file it came from.
 *
 * Sizes are bounded so that products of two fit a 64-bit integer with room to spare; a hostile
 * file cannot make anything behind this check overflow or loop for hours.
 *
 * SPDX-License-Identifier: MIT */
#include "format/config.h"

#include <math.h>

enum { MAX_HEAD_DIM = 4096 };

static weir_status check_sizes(const nn_config *c, const char *path, weir_error *err) {
    const struct {
        const char *what;
        int value, max;
    } sizes[] = {
        {"hidden size", c->dim, CONFIG_MAX_SIZE},
        {"feed-forward size", c->ffn_dim, CONFIG_MAX_SIZE},
        {"number of layers", c->n_layers, NN_MAX_LAYERS},
        {"number of attention heads", c->n_heads, CONFIG_MAX_SIZE},
        {"number of key/value heads", c->n_kv_heads, CONFIG_MAX_SIZE},
        {"head size", c->head_dim, MAX_HEAD_DIM},
        {"vocabulary size", c->vocab, CONFIG_MAX_SIZE},
        {"context length", c->context, CONFIG_MAX_CONTEXT},
    };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].max) {
            return weir_fail(err, WEIR_ERR_MODEL, "%s: %s is %d, wanted is 1 to %d", path,
                             sizes[i].what, sizes[i].value, sizes[i].max);
        }
    }
    if (c->n_heads % c->n_kv_heads != 0) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: %d attention heads cannot share %d key/value heads", path, c->n_heads,
                         c->n_kv_heads);
    }
    if ((int64_t)c->n_heads * c->head_dim > CONFIG_MAX_SIZE) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: %d heads of %d features are more than the %d that fit", path,
                         c->n_heads, c->head_dim, CONFIG_MAX_SIZE);
    }
    return WEIR_OK;
}

static bool is_within(double x, double low, double high) {
    return x >= low && x <= high; /* false for not-a-number */
}

/* Says which number of the rotary embedding is out of bounds, NULL for none. */
static const char *bad_rope(const nn_rope *r) {
    const bool has_factor = r->scaling != NN_ROPE_PLAIN;
    const bool has_context = r->scaling == NN_ROPE_LLAMA3 || r->scaling == NN_ROPE_YARN;
    if (!is_within(r->theta, 1.001, 1e18)) return "rope theta";
    if (has_factor && !is_within(r->factor, 1e-6, 1e9)) return "rope scaling factor";
    if (has_context && r->original_context < 1) return "original context of the rope scaling";
    if (r->scaling == NN_ROPE_LLAMA3 &&
        !(is_within(r->low_freq_factor, 1e-6, 1e9) && is_within(r->high_freq_factor, 1e-6, 1e9) &&
          r->low_freq_factor < r->high_freq_factor)) {
        return "low or high frequency factor of the rope scaling";
    }
    if (r->scaling == NN_ROPE_YARN &&
        !(is_within(r->beta_slow, 1e-6, 1e9) && is_within(r->beta_fast, 1e-6, 1e9))) {
        return "beta of the rope scaling";
    }
    if (r->scaling == NN_ROPE_YARN && !is_within(r->attention_factor, 1e-6, 1e6)) {
        return "attention factor of the rope scaling";
    }
    return NULL;
}

static weir_status check_rope(const nn_config *c, const char *path, weir_error *err) {
    const nn_rope *r = &c->rope;
    if (r->dims == 0) return WEIR_OK;
    if (r->dims < 0 || r->dims > c->head_dim || r->dims % 2 != 0) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: %d of %d features of a head are rotated, wanted is an even number "
                         "not above the head size",
                         path, r->dims, c->head_dim);
    }
    const char *bad = bad_rope(r);
    if (!bad) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_MODEL, "%s: %s is out of bounds", path, bad);
}

weir_status config_check(const nn_config *c, const char *path, weir_error *err) {
    WEIR_TRY(check_sizes(c, path, err));
    WEIR_TRY(check_rope(c, path, err));
    const char *bad = NULL;
    if (!is_within((double)c->norm_eps, 0.0, 1.0)) bad = "epsilon of the norms";
    if (!is_within((double)c->clip_qkv, 0.0, 1e9)) bad = "clip_qkv";
    if (!is_within((double)c->attention_scale, 0.0, 1e9)) bad = "attention scale";
    if (!is_within((double)c->alibi_max_bias, c->alibi ? 1e-6 : 0.0, 1e6)) bad = "alibi bias";
    if (!is_within(c->sliding_window, 0.0, CONFIG_MAX_CONTEXT)) bad = "sliding window";
    if (!bad) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_MODEL, "%s: %s is out of bounds", path, bad);
}

static double mscale_of(double factor, double multiplier) {
    return factor <= 1.0 ? 1.0 : 0.1 * multiplier * log(factor) + 1.0;
}

double config_yarn_attention(double factor, double mscale, double mscale_all_dim) {
    if (mscale != 0.0 && mscale_all_dim != 0.0) {
        return mscale_of(factor, mscale) / mscale_of(factor, mscale_all_dim);
    }
    return mscale_of(factor, 1.0);
}
