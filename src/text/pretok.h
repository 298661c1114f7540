/* pretok.h - cutting text into words before any merging: a short pipeline of stages.
 *
 *     "Hello  world!"  --split--> "Hello" | " " | " world" | "!"  --split--> ...  --> words
 *
 * Every named pre-tokenizer (ByteLevel, Split, Digits, Punctuation, Metaspace, ...) comes down to
 * three kinds of stage: rewrite the piece (byte alphabet, prefix space, metaspace), or cut it with
 * a regular expression and one of five behaviours:
 *
 *     text "the-final--countdown", pattern "-"
 *     isolated       the - final - - countdown
 *     removed        the final countdown
 *     contiguous     the - final -- countdown
 *     with_previous  the- final- - countdown
 *     with_next      the -final - -countdown
 *
 * A piece runs through all later stages before the next one is cut, so nothing is stored.  A stage
 * sees its piece only: anchors and look-around stop at its ends, as in the models' own code.
 *
 * Patterns are Oniguruma's dialect (what tokenizer.json is written in), translated to PCRE2, which
 * also compiles them to machine code.  A construct the translation does not know is an error.
 *
 * A pretok is immutable once built; a pretok_work belongs to one call.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"

typedef struct pcre2_regex pcre2_regex; /* a compiled pattern, opaque to the other files */

typedef enum split_behavior {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_CONTIGUOUS,
    SPLIT_WITH_PREVIOUS,
    SPLIT_WITH_NEXT,
} split_behavior;

typedef enum pretok_kind {
    STAGE_SPLIT,
    STAGE_BYTES,     /* spell the piece in the byte alphabet                              */
    STAGE_PREFIX,    /* put a space in front of a piece that has none                     */
    STAGE_METASPACE, /* spaces become `mark`, one is put in front as `prepend` says       */
} pretok_kind;

typedef enum pretok_prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } pretok_prepend;

typedef struct pretok_stage {
    pretok_kind kind;
    pcre2_regex *regex; /* STAGE_SPLIT: owned */
    split_behavior behavior;
    bool invert;  /* what does not match is the match */
    char mark[5]; /* STAGE_METASPACE: one character, terminated */
    pretok_prepend prepend;
} pretok_stage;

enum { PRETOK_STAGES = 16 };

typedef struct pretok { /* all-zero passes the text through as one word */
    pretok_stage stages[PRETOK_STAGES];
    int n_stages;
} pretok;

void pretok_clear(pretok *p);

/* Adds a stage; a STAGE_SPLIT compiles its pattern.  what names the place for messages. */
weir_status pretok_add(pretok *p, const pretok_stage *stage, const char *what, weir_error *err);
weir_status pretok_add_split(pretok *p, const char *pattern, size_t size, split_behavior behavior,
                             bool invert, const char *what, weir_error *err);

/* The pattern of GPT-2, which ByteLevel with use_regex stands for. */
#define PRETOK_GPT2 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* How a GGUF names a pre-tokenizer: its stages and what else the name implies. */
typedef struct pretok_named {
    bool ignore_merges; /* a word that is a piece is taken whole */
    bool adds_bos;      /* unless the file says otherwise        */
} pretok_named;

/* WEIR_ERR_MODEL and the name when it is not known. */
weir_status pretok_open_named(pretok *p, pretok_named *out, const char *name, size_t size,
                              const char *path, weir_error *err);

typedef struct pretok_work { /* scratch of one call; all-zero is empty */
    struct pretok_match *match;
    buffer rewritten[PRETOK_STAGES];
} pretok_work;

void pretok_work_clear(pretok_work *w);

typedef weir_status pretok_word(void *user, const char *text, size_t size, weir_error *err);

/* Cuts well-formed UTF-8 and hands each word to fn.  first: the text begins the input. */
weir_status pretok_run(const pretok *p, pretok_work *w, const char *text, size_t size, bool first,
                       pretok_word *fn, void *user, weir_error *err);

/* ---- regular expressions (pretok_regex.c) */

weir_status regex_compile(pcre2_regex **out, const char *pattern, size_t size, const char *what,
                          weir_error *err);
void regex_free(pcre2_regex *regex); /* accepts NULL */

struct pretok_match *regex_match_new(void);
void regex_match_free(struct pretok_match *m); /* accepts NULL */

/* Finds the first match at or after `from` in text.  *found tells; a pattern that gives up (too
 * much backtracking) is an error. */
weir_status regex_find(const pcre2_regex *regex, struct pretok_match *m, const char *text,
                       size_t size, size_t from, bool *found, size_t *start, size_t *end,
                       weir_error *err);
