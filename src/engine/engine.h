/* engine.h - the structs behind weir_engine and weir_session.
 *
 *     checkpoint -> graph -> plan -> backend          one engine
 *     window + sampler + history + reply              one session, in a slot of the engine's KV
 *
 * Everything of fixed size is allocated when the engine or the session opens.  Text enters through
 * chat.c (templates) or as it is, tokens through step.c, which alone makes batches.
 *
 *     engine.c    open, info, close             step.c      feed, eval, step: tokens to logits
 *     session.c   open, append, pin, stats      reply.c     next: logits to text
 *     chat.c      say: messages to tokens       snapshot.c  save, restore, fork
 *     window.c    what is seen                  sampler.c   the next token
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/backend.h"
#include "engine/sampler.h"
#include "engine/stop.h"
#include "engine/window.h"
#include "text/template.h"
#include "text/tokenizer.h"

#include <stdatomic.h>

enum { ENGINE_PROBLEM = 256 }; /* bytes of a sentence that says why something is missing */

struct weir_engine {
    weir_engine_options options; /* with defaults filled in; strings not kept */
    arena *arena;                /* graph and params */
    checkpoint *checkpoint;
    plan *plan;
    backend *backend;
    char backend_reason[BACKEND_REASON];
    weir_tokenizer *tokenizer; /* NULL: tokenizer_problem says why */
    char tokenizer_problem[ENGINE_PROBLEM];
    chat_template *chat_template; /* NULL: template_problem says why */
    char template_problem[ENGINE_PROBLEM];
    backend_sizes sizes;
    size_t session_bytes;
    uint64_t fingerprint; /* of the model: names, shapes, samples of the weights */
    weir_session **slots; /* [options.sessions], NULL: free */
    batch_row *rows;      /* [plan->max_rows] of the step being made */
    batch_group *groups;  /* [plan->max_rows] */
    int *wanted;          /* [plan->max_rows] */
    batch_draw *draws;    /* [plan->max_rows] */
    int32_t *drawn;       /* [plan->max_rows] of the step before the last */
    bool is_lost;         /* a step failed: the device is gone */
};

typedef struct reply { /* the reply being generated */
    bool is_open;
    detokenizer detokenizer;
    stop_filter stop;
    buffer text;                /* of one token; reserved when the session opens */
    weir_end end;               /* NONE while tokens flow */
    int n_tokens;               /* since it began or was cut: what max_tokens counts */
    atomic_bool is_interrupted; /* to be cut before its next token; set by any thread */
} reply;

typedef struct chat {   /* what rendering the next message needs to know */
    char *system;       /* heap; NULL: none */
    bool has_user;      /* the first user message was read */
    bool is_closed;     /* the last turn's end was read: the next message brings none */
    int32_t last_token; /* last token fed; -1: none */
    int64_t now; /* seconds since 1970 for the template, the same in all of a chat; 0: unset */
    uint64_t asked_at; /* the position behind the last message: nothing was replied yet there */
} chat;

struct weir_session {
    weir_engine *engine;
    int slot;
    weir_session_options options; /* as opened; sampling lives in the sampler */
    window window;
    sampler sampler;
    int32_t *history; /* [window] ring of token ids by stream position */
    int32_t *pinned;  /* [max_sinks] ids of the pinned tokens */
    float *logits;    /* [vocab] after the last token; valid when has_logits */
    bool has_logits;
    bool is_ahead; /* the engine's last step has left them on the device, where they are those of
                      wanted row ahead_row, and has drawn the next token there */
    int ahead_row;
    rng after;            /* the generator once that token is taken */
    window window_before; /* of the step being made, which may turn out to have drawn nothing */
    rng rng_before;
    int32_t recent[SAMPLER_RECENT]; /* room for sampler_defer */
    reply reply;
    chat chat;
    weir_session_stats counts; /* the counters; the rest is filled in on request */
};

/* step.c: reads tokens; their effect on the counters is the caller's to time. */
weir_status session_read(weir_session *s, const int32_t *ids, size_t n, weir_error *err);

/* Reads the token that the session's sampling chooses and says which it is. */
weir_status session_generate(weir_session *s, int32_t *id, weir_error *err);

/* Brings logits that are still on the device; settle forgets the token drawn from them, too. */
weir_status session_fetch(const weir_session *s, weir_error *err);
weir_status session_settle(const weir_session *s, weir_error *err);

/* chat.c: forgets the conversation; the session's stream is emptied elsewhere. */
void chat_clear(chat *c);

/* reply.c */
weir_status reply_init(reply *r, const sampler *s, weir_error *err); /* allocates, once */
weir_status reply_set_stops(reply *r, const sampler *s, weir_error *err);
void reply_close(reply *r); /* ends a reply in progress; keeps the memory */
void reply_clear(reply *r);

/* Rows of a session's ring: a chunk is stored before its first query has looked back. */
static inline int engine_ring(const weir_engine *e) {
    return e->options.window + e->options.chunk - 1;
}

/* engine.c: refuses work on an engine whose device is lost, or one that has no tokenizer. */
weir_status engine_check(const weir_engine *e, weir_error *err);
weir_status engine_check_text(const weir_engine *e, weir_error *err);

/* FNV-1a, 64 bit; start with ENGINE_HASH. */
#define ENGINE_HASH 0xcbf29ce484222325u
uint64_t engine_hash(uint64_t hash, const void *data, size_t size);
