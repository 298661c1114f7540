/* registry.h - the families that are built in.
 *
 * A model file exports one nn_arch; registry.c lists it under every architecture name that shares
 * it.  Nothing else in the engine knows a family.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "weir/nn.h"

/* The family of config.json's architectures[0]; NULL: none. */
const nn_arch *model_find(const char *architecture);

/* The names known, for messages: "LlamaForCausalLM, MistralForCausalLM, ...". */
const char *model_names(void);
