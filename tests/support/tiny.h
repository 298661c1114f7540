/* tiny.h - tiny models that a test makes for itself, in a folder of its own under the build.
 *
 *     const char *path = tiny_make(&(tiny_model){.seed = 1});
 *     ...
 *     tiny_remove(path);
 *
 * A Llama of two layers with random float32 weights, and a byte-level tokenizer: ids 0 to 255 are
 * the bytes, then come special tokens, then a few merges, so that text is more than its bytes.
 *
 * With a script the model says just that: the token after a byte of the script is the byte after
 * it, the token after the last is `end`, and the script begins after `after`.  No byte may come
 * twice.  Attention and feed-forward weights add nothing then.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    TINY_BOS = 256,      /* <|bos|>, added in front of text */
    TINY_EOS = 257,      /* <|eos|> */
    TINY_IM_START = 258, /* <|im_start|> */
    TINY_IM_END = 259,   /* <|im_end|>, ends a turn */
    TINY_VOCAB = 288,
};

typedef struct tiny_model {                          /* all-zero is a model that works */
    int dim, n_layers, n_heads, n_kv_heads, ffn_dim; /* 0: 32, 2, 4, 2, 48 */
    int sliding_window;                              /* 0: none */
    uint64_t seed;
    const char *script;        /* NULL: random weights */
    int after, end;            /* ids; 0: <|eos|> */
    const char *chat_template; /* NULL: none */
    bool no_bos;               /* the tokenizer adds nothing in front */
    bool no_tokenizer;
    const char *missing; /* a tensor that the file lacks */
    const char *narrow;  /* a tensor with one column too few */
} tiny_model;

/* Writes the folder; the path is the heap's, tiny_remove takes it back.  A failure ends the test.
 */
char *tiny_make(const tiny_model *model);
void tiny_remove(char *path);

/* A path for a file or folder nobody else has; heap, and nothing is there yet. */
char *tiny_path(void);
