/* likelihood.h - how surprised a model was by a token.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

/* -log softmax(logits)[target] in nats; not finite when the logits are not. */
double likelihood_nll(const float *logits, int vocab, int32_t target);
