/* cmd_tokenize.c - weir tokenize: text to ids on one line, or ids to text.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/input.h"
#include "cli/options.h"
#include "cli/run.h"
#include "cli/term.h"

#include <string.h>
#include <unistd.h>

typedef struct work {
    const options *o;
    weir_tokenizer *tokenizer;
    buffer text;
    int32_t *ids; /* [n] of the library */
    size_t n;
    char *decoded; /* of the library */
    size_t decoded_size;
    id_list given;
    weir_error err;
} work;

/* Ids are written by hand: a book has a million of them. */
static void print_ids(const int32_t *ids, size_t n) {
    char line[4096];
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (used + 16 > sizeof line) {
            out_write(line, used);
            used = 0;
        }
        used += (size_t)snprintf(line + used, sizeof line - used, i ? " %d" : "%d", ids[i]);
    }
    out_write(line, used);
    out_write("\n", 1);
}

/* A new reference. */
static json_t *ids_json(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static weir_status encode(work *w) {
    const int flags = (w->o->no_bos ? 0 : WEIR_ADD_BOS) | (w->o->special ? WEIR_PARSE_SPECIAL : 0);
    WEIR_TRY(input_read(&w->text, "-", &w->err));
    WEIR_TRY(weir_tokenize(w->tokenizer, w->text.data ? w->text.data : "", w->text.size, flags,
                           &w->ids, &w->n, &w->err));
    if (w->o->json) {
        run_print_json(json_pack("{s:I, s:I, s:o}", "bytes", (json_int_t)w->text.size, "tokens",
                                 (json_int_t)w->n, "ids", ids_json(w->ids, w->n)),
                       true);
    } else {
        print_ids(w->ids, w->n);
    }
    return WEIR_OK;
}

/* On a terminal a line end is added; a file or pipe gets the text, byte for byte. */
static weir_status decode(work *w) {
    WEIR_TRY(input_ids(&w->given, "-", 0, &w->err));
    WEIR_TRY(weir_detokenize(w->tokenizer, w->given.ids, w->given.n, &w->decoded, &w->decoded_size,
                             &w->err));
    if (w->o->json) {
        json_t *text = json_stringn(w->decoded, w->decoded_size);
        run_print_json(json_pack("{s:I, s:o}", "tokens", (json_int_t)w->given.n, "text",
                                 text ? text : json_null()),
                       true);
        return WEIR_OK;
    }
    out_text(w->decoded, w->decoded_size);
    const bool ends_open = w->decoded_size && w->decoded[w->decoded_size - 1] != '\n';
    if (ends_open && isatty(STDOUT_FILENO)) out_write("\n", 1); /* a file gets the bytes alone */
    return WEIR_OK;
}

int cmd_tokenize(const options *o) {
    work w = {.o = o};
    int result = EXIT_OK;
    weir_status status = weir_tokenizer_open(&w.tokenizer, o->model, &w.err);
    if (status == WEIR_OK) status = o->decode ? decode(&w) : encode(&w);
    if (status == WEIR_ERR_CANCELED && signal_caught()) {
        result = 128 + signal_caught();
    } else if (status != WEIR_OK) {
        complain(o->command, "%s", w.err.message);
        result = EXIT_FAILED;
    }
    weir_tokenizer_close(w.tokenizer);
    weir_free(w.ids);
    weir_free(w.decoded);
    id_list_clear(&w.given);
    buffer_clear(&w.text);
    return result;
}
