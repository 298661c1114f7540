/* weir.h - endless conversations with a language model.
 *
 *     weir_error err;
 *     weir_engine *engine;
 *     weir_session *chat;
 *     if (weir_engine_open(&engine, "models/qwen2.5-7b", NULL, &err) != WEIR_OK) die(err.message);
 *     if (weir_session_open(&chat, engine, NULL, &err) != WEIR_OK) die(err.message);
 *     if (weir_session_say(chat, WEIR_USER, "Hello!", &err) != WEIR_OK) die(err.message);
 *     for (weir_text t; weir_session_next(chat, &t, &err) == WEIR_OK && t.size;)
 *         fwrite(t.data, 1, t.size, stdout);
 *     weir_session_close(chat);
 *     weir_engine_close(engine);
 *
 * An engine is a loaded model with room for a fixed number of sessions; a session is one timeline
 * of tokens that never fills up.  All memory is laid out when the engine opens: no call after that
 * allocates memory that grows with the length of a conversation.
 *
 * The streaming rule.  A query at stream position t attends the S pinned tokens (the sinks) and
 * the most recent W - S tokens, itself included; its position is its index in that cache.  Until
 * t < W that is plain causal attention.  docs/streaming.md has the mathematics.
 *
 * Threads.  An engine may be shared by threads only through sessions of different threads one call
 * at a time: steps of one engine are serialised by the caller.  A session belongs to one thread at
 * a time.  Two engines are independent.
 *
 * Errors.  Every fallible function returns a weir_status and fills the caller's weir_error (which
 * may be NULL).  The library never prints, exits or aborts.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
    #define WEIR_API        __attribute__((visibility("default")))
    #define WEIR_MUST_CHECK __attribute__((warn_unused_result))
#else
    #define WEIR_API
    #define WEIR_MUST_CHECK
#endif

/* ------------------------------------------------------------------ version and status */

#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0

/* Returns "0.1.0". */
WEIR_API const char *weir_version(void);

#define WEIR_STATUS_MAP(X)                      \
    X(OK, "success")                            \
    X(ERR_ARGUMENT, "invalid argument")         \
    X(ERR_IO, "file cannot be read or written") \
    X(ERR_FORMAT, "malformed file")             \
    X(ERR_MODEL, "model not supported")         \
    X(ERR_MEMORY, "out of memory")              \
    X(ERR_DEVICE, "device failed")              \
    X(ERR_CANCELED, "canceled")                 \
    X(ERR_FULL, "window is full")

typedef enum weir_status {
#define X(name, text) WEIR_##name,
    WEIR_STATUS_MAP(X)
#undef X
} weir_status;

/* Filled only on failure; lives with the caller.  The message names the thing, what was found and
 * what was wanted; no newline, no capital, always terminated. */
typedef struct weir_error {
    weir_status status;
    char message[508];
} weir_error;

/* Returns the fixed text of a status, "success" for WEIR_OK. */
WEIR_API const char *weir_status_text(weir_status status);

/* ------------------------------------------------------------------ options */

/* Element types of weights and of the KV cache. */
typedef enum weir_type {
    WEIR_TYPE_DEFAULT, /* weights: as stored; KV: f16                                     */
    WEIR_F32,
    WEIR_F16,
    WEIR_BF16,
    WEIR_INT8, /* KV only: one scale per head and token; pinned tokens stay 16 bit */
    WEIR_Q8,   /* weights only: 8 bit, groups of 32 with one scale                 */
    WEIR_Q4,   /* weights only: 4 bit, groups of 32 with one scale                 */
    WEIR_FP8,  /* KV only: e4m3, otherwise as INT8                                 */
} weir_type;

typedef enum weir_mode {
    WEIR_STREAMING, /* sinks + the most recent tokens: runs for ever                       */
    WEIR_DENSE,     /* keep everything; WEIR_ERR_FULL at the window's end                  */
    WEIR_WINDOW,    /* the most recent W tokens, no sinks (what naive sliding does)        */
    WEIR_RECOMPUTE, /* re-encode the last W tokens for every token (the slow gold standard) */
} weir_mode;

typedef enum weir_policy {
    WEIR_EVICT_TOKEN, /* the streaming rule, one token at a time          */
    WEIR_EVICT_TURN,  /* when full, drop the oldest whole turn of a chat  */
} weir_policy;

/* Returns 0 to go on, anything else to cancel; done and total are in bytes or tokens. */
typedef int (*weir_progress)(void *user, const char *what, uint64_t done, uint64_t total);

/* All-zero is the default. */
typedef struct weir_engine_options {
    const char *backend;      /* "auto" (NULL: a GPU where there is one), "cuda", "cpu", "ref"
                                 (slow, the readable definition)                               */
    const char *kernel_cache; /* folder for compiled GPU kernels, made with the one it is in when
                                 one is kept; NULL: compiled at each open */
    const char *engine_file;  /* GPU kernels of weir_engine_build, taken or refused; NULL: none  */
    int threads;              /* 0: all cores                                                  */
    int sessions;             /* sessions that can be open at once; 0: 1                       */
    int window;               /* W; 0: the model's trained context, at most 4096               */
    int max_sinks;            /* most tokens a session can pin; 0: a quarter of the window     */
    int chunk;                /* most tokens of one step; 0: 256, on a GPU a quarter of the
                                 window, at most 1024, if it fits                              */
    weir_type kv_type;        /* DEFAULT (f16), F32, F16, BF16, INT8, FP8                      */
    weir_type weights;        /* DEFAULT (as stored), Q8, Q4: repack 16- and 32-bit weights    */
    weir_progress progress;   /* called while weights load and prompts are read; may be NULL   */
    void *progress_user;
    const struct nn_arch *arch; /* a family of your own (weir/nn.h) that takes the place of the
                                   built-in one; NULL: the one that the model names           */
} weir_engine_options;

#define WEIR_MAX_STOPS 8

/* How the next token is chosen.  All-zero is greedy with the loop guard on.  Filters apply in this
 * order: bias, penalties, temperature, top-k, typical, top-p, min-p. */
typedef struct weir_sampling {
    float temperature;        /* 0: greedy                                            */
    int top_k;                /* 0: off                                               */
    float top_p;              /* 0 or 1: off                                          */
    float min_p;              /* 0: off; keep tokens with p >= min_p * p of the best  */
    float typical_p;          /* 0 or 1: off                                          */
    float repeat_penalty;     /* 0 or 1: off; divides positive logits of seen tokens  */
    float presence_penalty;   /* 0: off; subtracted once from seen tokens             */
    float frequency_penalty;  /* 0: off; subtracted per occurrence                    */
    int penalty_last;         /* tokens the penalties look back on, at most 1024; 0: 64 */
    uint64_t seed;            /* same seed, same text; 0 is a seed like any other     */
    const int32_t *bias_ids;  /* [n_bias] tokens whose logits get bias_values added   */
    const float *bias_values; /* [n_bias]; copied when the session takes the options  */
    int n_bias;
    const char *stops[WEIR_MAX_STOPS]; /* a reply ends before the first of these; NULL: none */
    int max_tokens;                    /* a reply is cut after so many; 0: it is not     */
    bool no_loop_guard;                /* let degenerate repetition run                      */
    bool ignore_eos;                   /* do not end a reply at the model's end tokens       */
} weir_sampling;

/* All-zero is the default. */
typedef struct weir_session_options {
    weir_mode mode;
    weir_policy policy;
    int sinks; /* S: tokens pinned from the start of the stream; 0: 4, or BOS and the whole system
                  prompt of a chat; WEIR_NO_SINKS: none                                          */
    uint64_t start; /* stream position of the first token; 0 unless positions are being tested   */
    weir_sampling sampling;
} weir_session_options;

#define WEIR_NO_SINKS (-1)

/* ------------------------------------------------------------------ engine */

typedef struct weir_engine weir_engine;
typedef struct weir_session weir_session;
typedef struct weir_tokenizer weir_tokenizer;

/* Loads a model: an HF folder, a .safetensors file, or a .gguf file; NULL: the model built into
 * this library (WEIR_ERR_ARGUMENT when there is none).  Lays out all memory for options->sessions
 * sessions; what does not fit is refused with the numbers.  On failure *out is NULL. */
WEIR_API WEIR_MUST_CHECK weir_status weir_engine_open(weir_engine **out, const char *path,
                                                      const weir_engine_options *options,
                                                      weir_error *err);

/* Accepts NULL.  All sessions must be closed first. */
WEIR_API void weir_engine_close(weir_engine *engine);

typedef struct weir_engine_info { /* strings are valid until the engine closes */
    const char *architecture, *name, *backend, *kernels, *weight_type, *kv_type;
    const char *backend_reason; /* why auto took no GPU; empty: nothing to tell           */
    int dim, ffn_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab, context;
    int window, max_sinks, chunk, sessions, threads;
    uint64_t parameters;
    uint64_t weight_bytes;     /* packed weights in memory                                */
    uint64_t activation_bytes; /* the plan's arena                                        */
    uint64_t session_bytes;    /* KV and history of one session                           */
    uint64_t total_bytes;      /* weights + activations + sessions * session_bytes        */
    uint64_t bytes_per_token;  /* read from memory for one token, window full             */
    uint64_t memory_bytes;     /* that the process may use of this machine, or of the GPU  */
    uint64_t flops_per_token;  /* of the products for a token of a prompt                 */
    bool is_on_device;         /* all of that but the text lies in the GPU's memory       */
    bool has_chat_template;
} weir_engine_info;

WEIR_API void weir_engine_get_info(const weir_engine *engine, weir_engine_info *out);

typedef struct weir_rates {       /* of what computes, measured; 0: there is no measure for it */
    double read_bytes_per_second; /* of its memory */
    double flops_per_second;      /* of products of 16-bit matrices */
} weir_rates;

/* Measures what the engine's back end could do at best: the yardsticks of `weir bench`. */
WEIR_API WEIR_MUST_CHECK weir_status weir_engine_measure(weir_engine *engine, weir_rates *out,
                                                         weir_error *err);

/* Writes the plan (operations, tensors, memory map) as text; calls write once per line. */
WEIR_API void weir_engine_describe_plan(const weir_engine *engine,
                                        void (*write)(void *user, const char *line), void *user);

/* The model's tokenizer, NULL when it has none; valid until the engine closes. */
WEIR_API const weir_tokenizer *weir_engine_tokenizer(const weir_engine *engine);

/* ------------------------------------------------------------------ engine files */

/* Compiles the kernels that an engine of the model at `path` runs on GPUs and writes them to
 * `file`, which weir_engine_options.engine_file takes on a machine that has the driver and nothing
 * else.  targets: a list like "sm_80,sm_90a"; NULL: the GPU of this machine.  Wants NVRTC, and no
 * GPU when there are targets.  Of the options the types of weights and of keys and values matter:
 * one file serves any window, chunk and number of sessions.  progress is asked before each target,
 * while it is compiled where NVRTC allows that, and after the last.  `file` is written whole or not
 * at all, and never over what is no engine file. */
WEIR_API WEIR_MUST_CHECK weir_status weir_engine_build(const char *file, const char *path,
                                                       const char *targets,
                                                       const weir_engine_options *options,
                                                       weir_error *err);

typedef struct weir_engine_file_info {
    char made_by[16];      /* version of weir                               */
    char model[64];        /* name of the model it was built for            */
    char targets[256];     /* "sm_80, sm_90a"                               */
    char weight_types[64]; /* "bf16, q8"                                    */
    char kv_type[16];      /* "f16"                                         */
    int head_dim;          /* features of a head                            */
    int nvrtc[2];          /* version of the compiler                       */
    uint64_t bytes;
    bool is_current; /* false: made by another weir, this one refuses it */
} weir_engine_file_info;

/* Says what is in an engine file, all of which is checked.  WEIR_ERR_ARGUMENT when it is none. */
WEIR_API WEIR_MUST_CHECK weir_status weir_engine_read_file_info(weir_engine_file_info *out,
                                                                const char *path, weir_error *err);

/* ------------------------------------------------------------------ session */

WEIR_API WEIR_MUST_CHECK weir_status weir_session_open(weir_session **out, weir_engine *engine,
                                                       const weir_session_options *options,
                                                       weir_error *err);
WEIR_API void weir_session_close(weir_session *session); /* accepts NULL */

/* Empties the session: as if just opened with the same options. */
WEIR_API void weir_session_reset(weir_session *session);

/* Replaces how tokens are chosen from now on; restarts the generator from the seed. */
WEIR_API weir_status weir_session_set_sampling(weir_session *session, const weir_sampling *sampling,
                                               weir_error *err);

typedef enum weir_role { WEIR_SYSTEM, WEIR_USER, WEIR_ASSISTANT, WEIR_TOOL } weir_role;

/* Adds a message to the chat, in the words of the model's template, and reads it.  The first
 * message may be WEIR_SYSTEM: it is read with the first WEIR_USER message and pinned with BOS.
 * After WEIR_USER, weir_session_next gives the reply; WEIR_ASSISTANT puts words into its mouth.
 * Special tokens spelled in the text stay text; text is UTF-8, terminated. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_say(weir_session *session, weir_role role,
                                                      const char *text, weir_error *err);

/* Adds plain text, no template.  BOS goes in front when the stream is empty and the model wants
 * it.  Special tokens in the text are taken as text. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_append(weir_session *session, const char *text,
                                                         size_t size, weir_error *err);

/* Adds tokens as they are; a reply in progress is over. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_feed(weir_session *session, const int32_t *ids,
                                                       size_t n, weir_error *err);

/* Why a reply ended. */
typedef enum weir_end {
    WEIR_END_NONE,      /* it has not                                  */
    WEIR_END_TURN,      /* the model ended its turn or text            */
    WEIR_END_STOP,      /* a stop string                               */
    WEIR_END_LOOP,      /* the loop guard: the text repeated itself    */
    WEIR_END_LENGTH,    /* max_tokens were generated                   */
    WEIR_END_INTERRUPT, /* weir_session_interrupt                      */
} weir_end;

typedef struct weir_text { /* whole UTF-8 characters; valid until the session's next call */
    const char *data;
    size_t size; /* 0: the reply is over, see end                                      */
    weir_end end;
    int tokens; /* tokens this piece took                                              */
} weir_text;

/* Generates until there is text to show: a piece of the reply, or size 0 at its end.  A reply cut
 * by WEIR_END_LENGTH or WEIR_END_INTERRUPT goes on with the next call; what is said, added or fed
 * in between ends it. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_next(weir_session *session, weir_text *out,
                                                       weir_error *err);

/* Cuts the reply here, or one that is about to begin: weir_session_next, also one that is running
 * now, generates no further token, gives what was held back, then WEIR_END_INTERRUPT.  For Ctrl-C:
 * any thread and any signal handler may call it.  The session stays whole: the next message closes
 * the turn. */
WEIR_API void weir_session_interrupt(weir_session *session);

/* The logits after the last token read, [vocab]; valid until the session's next call.  NULL while
 * there are none. */
WEIR_API const float *weir_session_logits(const weir_session *session);

/* Chooses a token from the current logits without adding it. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_sample(weir_session *session, int32_t *id,
                                                         weir_error *err);

/* Called with the logits after token i of the call, [vocab]; nonzero cancels. */
typedef int (*weir_logits_fn)(void *user, size_t i, const float *logits);

/* Adds tokens and shows the logits after each of them.  Parallel: costs about what prefill costs.
 * In WEIR_RECOMPUTE mode, every stride-th token only (0 and 1: all). */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_eval(weir_session *session, const int32_t *ids,
                                                       size_t n, size_t stride, weir_logits_fn fn,
                                                       void *user, weir_error *err);

/* What one session gets in a step of many. */
typedef struct weir_feed {
    weir_session *session;
    const int32_t *ids; /* [n]; NULL, with n 0: the next token, as its sampling chooses it  */
    int n;              /* 1 to chunk                                                       */
    bool is_prompt;     /* counts as read, not as generated                                 */
    bool has_more;      /* its text goes on in a later step: no logits are wanted yet       */
    int32_t token;      /* set by the step: the last token it read; negative: it read none  */
} weir_feed;

/* Adds tokens to n different sessions of one engine in one step: at most chunk of them in all, or
 * one for each session where that is more.  Give every running stream its token and the prompts
 * that wait a slice of what is left: a stream then waits for no more than one such step, however
 * long the prompt.
 *
 * A session without ids reads the token that its sampling chooses, the same as alone.  A GPU
 * chooses it where the logits are and has this step under way before the host hears of it: let
 * streams go on without ids, and look at `token` for what ends them.
 *
 * What a session gets does not depend on what the others get, bit for bit (on a GPU it does on how
 * many tokens there are, from 5 on).  Afterwards weir_session_logits serves each that has no more.
 * Replies in progress are over. */
WEIR_API WEIR_MUST_CHECK weir_status weir_engine_step(weir_engine *engine, weir_feed *feeds, int n,
                                                      weir_error *err);

/* Pins the tokens at stream positions [from, to), which must still be in the window: they are
 * copied behind the pinned tokens, their keys re-rotated once, and stay for ever. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_pin(weir_session *session, uint64_t from,
                                                      uint64_t to, weir_error *err);

typedef struct weir_session_stats {
    uint64_t position;     /* stream position of the next token                       */
    int window, in_window; /* W; tokens attended by the next query, pinned ones too   */
    int pinned, max_pinned;
    uint64_t evicted_tokens; /* nothing is dropped in silence                           */
    uint64_t evicted_turns;
    uint64_t prompt_tokens, generated_tokens;
    double prompt_seconds, generate_seconds;
    uint64_t loops; /* replies ended by the loop guard                         */
} weir_session_stats;

WEIR_API void weir_session_get_stats(const weir_session *session, weir_session_stats *out);

/* Writes the session to a file: its size depends on the window, not on the history; checksummed,
 * written beside the target and renamed into place. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_save(const weir_session *session,
                                                       const char *path, weir_error *err);

/* Replaces the session's state by a saved one.  Refused, with the reason and the session left as
 * it was, for another model, window, KV type, or a damaged file. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_restore(weir_session *session, const char *path,
                                                          weir_error *err);

/* Opens a second session that continues from the same point. */
WEIR_API WEIR_MUST_CHECK weir_status weir_session_fork(weir_session **out,
                                                       const weir_session *session,
                                                       weir_error *err);

/* ------------------------------------------------------------------ text */

/* Opens the tokenizer of an HF folder, a tokenizer.json, or a GGUF (with or without tensors). */
WEIR_API WEIR_MUST_CHECK weir_status weir_tokenizer_open(weir_tokenizer **out, const char *path,
                                                         weir_error *err);
WEIR_API void weir_tokenizer_close(weir_tokenizer *tokenizer); /* accepts NULL */

enum { WEIR_ADD_BOS = 1, WEIR_PARSE_SPECIAL = 2 };

/* Encodes size bytes of UTF-8 (invalid bytes become U+FFFD).  WEIR_ADD_BOS adds what the model's
 * own post-processor adds in front; WEIR_PARSE_SPECIAL recognises special tokens in the text.
 * Returns a heap array the caller frees with weir_free. */
WEIR_API WEIR_MUST_CHECK weir_status weir_tokenize(const weir_tokenizer *tokenizer,
                                                   const char *text, size_t size, int flags,
                                                   int32_t **ids, size_t *n, weir_error *err);

/* Decodes n ids; special tokens are written out.  *text is terminated; free with weir_free. */
WEIR_API WEIR_MUST_CHECK weir_status weir_detokenize(const weir_tokenizer *tokenizer,
                                                     const int32_t *ids, size_t n, char **text,
                                                     size_t *size, weir_error *err);
WEIR_API void weir_free(void *pointer);

/* ------------------------------------------------------------------ the machine */

/* Measures the read bandwidth of this machine's memory with the given threads (0: all), bytes/s. */
WEIR_API double weir_measure_bandwidth(int threads);

#ifdef __cplusplus
}
#endif
