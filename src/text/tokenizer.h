/* tokenizer.h - text to token ids and back, exactly as each model's own tokenizer does it.
 *
 *     text -> special tokens cut out -> normalizer -> pre-tokenizer -> BPE merges -> ids
 *
 * Sources: an HF tokenizer.json (byte-level BPE, SentencePiece-style BPE with byte fallback) or
 * the vocabulary in a GGUF (tokenizer.ggml.model "llama" or "gpt2" with its pre-tokenizer name).
 * A model type, normalizer or pre-tokenizer that is not known is an error, never a guess.
 *
 * A tokenizer is immutable once open: threads may share it.
 *
 * Tests: tests/text/test_tokenizer.c; fuzz/fuzz_tokenizer.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"
#include "format/gguf.h"

/* weir_tokenizer of weir.h is this layer's struct; its public functions are defined here. */

/* From a folder's (or a bare) tokenizer.json; tokenizer_config.json beside it, when there, adds
 * the chat template and the BOS/EOS names. */
weir_status tokenizer_open_json(weir_tokenizer **out, const char *path, weir_error *err);
weir_status tokenizer_open_gguf(weir_tokenizer **out, const gguf *g, const char *path,
                                weir_error *err);

int tokenizer_vocab(const weir_tokenizer *t);
int32_t tokenizer_bos(const weir_tokenizer *t); /* -1: none */
int32_t tokenizer_eos(const weir_tokenizer *t); /* -1: none */
bool tokenizer_adds_bos(const weir_tokenizer *t);
bool tokenizer_is_end(const weir_tokenizer *t,
                      int32_t id); /* ends a turn or text: eos, <|im_end|>, <|eot_id|>, ... */
const char *tokenizer_chat_template(const weir_tokenizer *t); /* Jinja source; NULL: none */
const char *tokenizer_token_text(
    const weir_tokenizer *t,
    int32_t id); /* the special token's or piece's own spelling; NULL: no such id */
int32_t tokenizer_find(const weir_tokenizer *t, const char *token); /* id of an exact token; -1 */

/* Encodes into ids, which grows on the heap (mem_*); *n tokens.  flags: WEIR_ADD_BOS,
 * WEIR_PARSE_SPECIAL. */
weir_status tokenizer_encode(const weir_tokenizer *t, const char *text, size_t size, int flags,
                             int32_t **ids, size_t *n, weir_error *err);

/* Incremental detokenising.  Bytes of incomplete UTF-8 characters are held back until they are
 * whole; bytes that can no longer become a character come out as U+FFFD.  All-zero is the start. */
typedef struct detokenizer {
    uint8_t held[8];
    int n_held;
    bool started; /* the first piece has been written (SentencePiece strips one leading space) */
} detokenizer;

/* Appends the text of id to out; special tokens give nothing unless show_special.  False when out
 * of memory. */
bool detokenizer_push(detokenizer *d, const weir_tokenizer *t, int32_t id, bool show_special,
                      buffer *out);
bool detokenizer_flush(detokenizer *d, buffer *out); /* what is held becomes U+FFFD */
