/* registry.c - which family serves which architecture name.
 *
 * SPDX-License-Identifier: MIT */
#include "model/registry.h"

#include <stddef.h>
#include <string.h>

extern const nn_arch model_llama, model_gpt_neox, model_mpt, model_falcon;

/* One line per name: X(name in config.json, family) */
#define MODEL_MAP(X)                      \
    X(LlamaForCausalLM, model_llama)      \
    X(MistralForCausalLM, model_llama)    \
    X(Qwen2ForCausalLM, model_llama)      \
    X(Qwen3ForCausalLM, model_llama)      \
    X(GPTNeoXForCausalLM, model_gpt_neox) \
    X(MPTForCausalLM, model_mpt)          \
    X(MptForCausalLM, model_mpt)          \
    X(FalconForCausalLM, model_falcon)    \
    X(RWForCausalLM, model_falcon)

const nn_arch *model_find(const char *architecture) {
    static const struct {
        const char *name;
        const nn_arch *arch;
    } map[] = {
#define X(name, arch) {#name, &arch},
        MODEL_MAP(X)
#undef X
    };
    for (size_t i = 0; i < sizeof map / sizeof *map; i++) {
        if (strcmp(map[i].name, architecture) == 0) return map[i].arch;
    }
    return NULL;
}

const char *model_names(void) {
#define X(name, arch) ", " #name
    static const char names[] = MODEL_MAP(X);
#undef X
    return names + 2;
}
