/* tokenizer_parts.h - what a tokenizer is made of; shared by the files that build and run one.
 *
 *     text --raw--> pieces of text --norm--> --normalized--> --pretok--> words --bpe--> ids
 *          (tokens matched                   (tokens matched
 *           as written)                       after normalizing)
 *
 *   tokenizer.c           encode, accessors        tokenizer_json.c      tokenizer.json
 *   tokenizer_detok.c     ids to text              tokenizer_pipeline.c  ... its pipelines
 *   tokenizer_open.c      files, public functions  tokenizer_config.c    the files beside it
 *   tokenizer_gguf.c      the vocabulary in a GGUF
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "text/added_tokens.h"
#include "text/bpe_merge.h"
#include "text/norm.h"
#include "text/pretok.h"
#include "text/tokenizer.h"

#include <jansson.h>

enum { TOKENIZER_PREFIX = 8, SMALL_CODES = 0x250 };

/* How pieces become text; only used while opening, the result is piece.output. */
typedef struct output_rules {
    norm replace;       /* on the spelling                                  */
    bool bytes;         /* the spelling is in the byte alphabet             */
    bool byte_fallback; /* "<0x41>" is a byte                               */
    bool joined;        /* no decoder: pieces are joined by spaces          */
} output_rules;

struct weir_tokenizer {
    arena *arena; /* strings */
    vocab vocab;
    bpe bpe;
    norm norm;
    pretok pretok;
    added_tokens raw, normalized;
    bool bytes;                     /* a word is a string of bytes, else of characters            */
    bool byte_fallback;             /* characters that are no piece are spelled as byte pieces    */
    bool fuse_unk;                  /* a run of unknown characters is one unk                     */
    bool ignore_merges;             /* a word that is a piece is taken whole                      */
    bool strip_space;               /* decoded text loses one leading space (SentencePiece)       */
    int32_t byte_ids[256];          /* the piece of a byte, VOCAB_NONE               */
    int32_t small_ids[SMALL_CODES]; /* the piece of a character below U+0250         */
    int32_t bos, eos, unk;          /* -1: none                                      */
    int32_t prefix[TOKENIZER_PREFIX]; /* what WEIR_ADD_BOS adds                        */
    int n_prefix;
    const char *chat_template; /* NULL: none */
};

/* An empty tokenizer with n_ids absent pieces; NULL: out of memory. */
weir_tokenizer *tokenizer_new(int n_ids);

/* Fills what is derived from the vocabulary: symbols of bytes and characters, ends of text. */
void tokenizer_finish(weir_tokenizer *t);

/* Gives every piece its output bytes. */
weir_status tokenizer_make_outputs(weir_tokenizer *t, const output_rules *rules, weir_error *err);

/* Adds a token that is cut out of text; normalized: matched after normalizing, its own spelling
 * normalized too. */
weir_status tokenizer_add_token(weir_tokenizer *t, const added_token *token, const char *text,
                                size_t size, bool normalized, weir_error *err);

/* Marks an id, if it is one, as the end of a turn or text. */
void tokenizer_mark_end(weir_tokenizer *t, int64_t id);

weir_status tokenizer_no_memory(weir_error *err, const char *path);

/* ---- tokenizer.json (tokenizer_pipeline.c); node may be NULL or null */

weir_status json_normalizer(weir_tokenizer *t, const json_t *node, const char *path,
                            weir_error *err);
weir_status json_pre_tokenizer(weir_tokenizer *t, const json_t *node, const char *path,
                               weir_error *err);
weir_status json_decoder(weir_tokenizer *t, output_rules *rules, const json_t *node,
                         const char *path, weir_error *err);
weir_status json_post_processor(weir_tokenizer *t, const json_t *node, const char *path,
                                weir_error *err);

/* Builds a tokenizer from a parsed tokenizer.json; folder, when not NULL, holds the files beside
 * it. */
weir_status tokenizer_parse_json(weir_tokenizer **out, const json_t *root, const char *path,
                                 const char *folder, weir_error *err);

/* Reads a whole file as JSON.  reals: numbers become reals, for files with integers beyond 64 bits.
 * The caller owns *out. */
weir_status json_read(json_t **out, const char *path, bool reals, weir_error *err);

bool json_flag(const json_t *object, const char *key, bool absent);
const char *json_text(const json_t *object, const char *key); /* NULL: absent or no string */

/* The merges and the vocabulary of a BPE model. */
weir_status json_vocab(weir_tokenizer **out, const json_t *model, const json_t *added,
                       const char *path, weir_error *err);
weir_status json_merge(weir_tokenizer *t, const char *left, size_t left_size, const char *right,
                       size_t right_size, uint32_t rank, const char *path, weir_error *err);
weir_status json_added_token(weir_tokenizer *t, int64_t id, const json_t *token, const char *path,
                             weir_error *err);

/* ---- the files beside tokenizer.json (tokenizer_config.c), each optional */

weir_status config_apply(weir_tokenizer *t, const char *folder, weir_error *err);

/* A folder with vocab.json and merges.txt, GPT-2's own format. */
weir_status tokenizer_open_pair(weir_tokenizer **out, const char *folder, weir_error *err);
