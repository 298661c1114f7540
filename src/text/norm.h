/* norm.h - normalizers: what a tokenizer does to text before it looks at words.
 *
 * A short list of steps, each from one buffer to another: Unicode normal forms, putting something
 * in front, replacing, lower-casing, stripping.  Well-formed UTF-8 in, well-formed UTF-8 out.
 *
 * Normal forms run in linear time on any text: only the stretch around non-ASCII characters is
 * touched, and a run of combining marks is sorted by counting, because a megabyte of marks is a
 * text like any other.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "text/pretok.h"

typedef enum norm_kind {
    NORM_NFC,
    NORM_NFD,
    NORM_NFKC,
    NORM_NFKD,
    NORM_PREPEND,       /* `with` in front of a text that is not empty  */
    NORM_REPLACE,       /* every `what` becomes `with`                  */
    NORM_REPLACE_REGEX, /* every match becomes `with`                   */
    NORM_LOWERCASE,
    NORM_STRIP,         /* white space at the ends that are set         */
    NORM_STRIP_ACCENTS, /* nonspacing marks go                          */
    NORM_BYTES,         /* spelled in the byte alphabet                 */
} norm_kind;

typedef struct norm_step {
    norm_kind kind;
    const char *what, *with; /* borrowed from the tokenizer's arena */
    size_t what_size, with_size;
    pcre2_regex *regex; /* owned */
    bool left, right;
} norm_step;

enum { NORM_STEPS = 16 };

typedef struct norm { /* all-zero leaves text as it is */
    norm_step steps[NORM_STEPS];
    int n_steps;
} norm;

void norm_clear(norm *n);
weir_status norm_add(norm *n, const norm_step *step, const char *path, weir_error *err);

typedef struct norm_work { /* scratch of one call; all-zero is empty */
    buffer text[2];
    struct pretok_match *match;
} norm_work;

void norm_work_clear(norm_work *w);

/* Normalises text; *out points into w, or at text when nothing is to be done, valid until the next
 * call with w. */
weir_status norm_run(const norm *n, norm_work *w, const char *text, size_t size, const char **out,
                     size_t *out_size, weir_error *err);

/* Unicode questions that other files have too. */
bool char_is_space(uint32_t code);
bool char_is_word(uint32_t code); /* letter, mark, decimal digit, connector */

/* Appends text in one of the four forms (norm_forms.c).  False: out of memory. */
bool norm_form(buffer *out, norm_kind form, const char *text, size_t size);
