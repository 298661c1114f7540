/* tokenizer_build.c - the steps of building a tokenizer that all its sources share.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include "base/unicode.h"

#include <stdio.h>
#include <string.h>

weir_tokenizer *tokenizer_new(int n_ids) {
    weir_tokenizer *t = mem_alloc(sizeof *t);
    if (!t) return NULL;
    t->bos = t->eos = t->unk = -1;
    t->arena = arena_new();
    if (t->arena && vocab_init(&t->vocab, t->arena, n_ids)) return t;
    weir_tokenizer_close(t);
    return NULL;
}

void weir_tokenizer_close(weir_tokenizer *t) {
    if (!t) return;
    added_clear(&t->raw);
    added_clear(&t->normalized);
    pretok_clear(&t->pretok);
    norm_clear(&t->norm);
    bpe_clear(&t->bpe);
    vocab_clear(&t->vocab);
    arena_free(t->arena);
    mem_free(t);
}

void tokenizer_mark_end(weir_tokenizer *t, int64_t id) {
    if (id >= 0 && id < t->vocab.n_ids) t->vocab.pieces[id].flags |= PIECE_END;
}

/* What released chat models end a turn with; only counts where it is a token of its own kind. */
static const char *const end_names[] = {
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "<|eos|>",
    "<|end_of_text|>",
    "<|return|>",
    "<|end_of_turn|>",
    "<eos>",
    "<EOT>",
    "[EOS]",
    "<|EOT|>",
    "<end_of_utterance>",
    "<\xef\xbd\x9c"
    "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", /* DeepSeek's, in full-width bars */
};

static void mark_ends(weir_tokenizer *t) {
    /* In the harmony format <|end|> only ends a message; <|return|> and <|call|> end the turn. */
    const int32_t call = tokenizer_find(t, "<|call|>");
    const bool harmony = call >= 0 && tokenizer_find(t, "<|return|>") >= 0;
    if (harmony) tokenizer_mark_end(t, call);
    for (size_t i = 0; i < COUNT_OF(end_names); i++) {
        if (harmony && strcmp(end_names[i], "<|end|>") == 0) continue;
        const int32_t id = tokenizer_find(t, end_names[i]);
        if (id < 0) continue;
        if (t->vocab.pieces[id].flags & (PIECE_SPECIAL | PIECE_ADDED)) tokenizer_mark_end(t, id);
    }
    tokenizer_mark_end(t, t->eos);
}

void tokenizer_finish(weir_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        char text[8];
        size_t size;
        if (t->bytes) {
            size = utf8_encode(text, byte_to_code((uint8_t)b));
        } else {
            size = (size_t)snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        }
        t->byte_ids[b] = vocab_find(&t->vocab, text, size);
    }
    for (uint32_t code = 0; code < SMALL_CODES; code++) {
        char text[UTF8_MAX];
        const size_t size = utf8_encode(text, code);
        t->small_ids[code] = vocab_find(&t->vocab, text, size);
    }
    mark_ends(t);
}

/* The bytes of one piece under the rules. */
static weir_status output_of(const output_rules *rules, norm_work *w, buffer *out, const piece *p,
                             weir_error *err) {
    bool ok = true;
    out->size = 0;
    if (rules->joined) ok = buffer_append(out, " ", 1);
    const int byte = rules->byte_fallback ? byte_piece(p->text, p->size) : -1;
    if (byte >= 0) {
        ok = ok && buffer_append(out, &(char){(char)byte}, 1);
    } else if (p->flags & PIECE_LITERAL) {
        ok = ok && buffer_append(out, p->text, p->size);
    } else if (!rules->bytes || !text_to_bytes(out, p->text, p->size)) {
        const char *text;
        size_t size;
        WEIR_TRY(norm_run(&rules->replace, w, p->text, p->size, &text, &size, err));
        ok = ok && buffer_append(out, text, size);
    }
    return ok ? WEIR_OK : tokenizer_no_memory(err, "tokenizer");
}

weir_status tokenizer_make_outputs(weir_tokenizer *t, const output_rules *rules, weir_error *err) {
    norm_work w = {0};
    buffer out = {0};
    weir_status status = WEIR_OK;
    for (int id = 0; status == WEIR_OK && id < t->vocab.n_ids; id++) {
        const piece *p = &t->vocab.pieces[id];
        if (!p->text) continue;
        status = output_of(rules, &w, &out, p, err);
        if (status == WEIR_OK && !vocab_set_output(&t->vocab, id, out.data, out.size)) {
            status = tokenizer_no_memory(err, "tokenizer");
        }
    }
    buffer_clear(&out);
    norm_work_clear(&w);
    return status;
}

weir_status tokenizer_add_token(weir_tokenizer *t, const added_token *token, const char *text,
                                size_t size, bool normalized, weir_error *err) {
    piece *p = &t->vocab.pieces[token->id];
    p->flags |= PIECE_ADDED | (token->special ? PIECE_SPECIAL : 0);
    norm_work w = {0};
    weir_status status = WEIR_OK;
    if (normalized) status = norm_run(&t->norm, &w, text, size, &text, &size, err);
    if (status == WEIR_OK && size > 0 &&
        !added_put(normalized ? &t->normalized : &t->raw, token, text, size)) {
        status = tokenizer_no_memory(err, "tokenizer");
    }
    norm_work_clear(&w);
    return status;
}
