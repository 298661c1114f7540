/* chat.c - messages to tokens, in the words of the model's own template, without keeping history.
 *
 * A template renders a whole conversation; an endless one cannot be kept.  So a message is rendered
 * in a small conversation of the same form, and what stands after the reply is what to read:
 *
 *     [system] user:U assistant:A message      ...U...A|<end of turn><header>message<footer>
 *                                                      ^ read from here
 *
 * A model that ended its own turn has written the first token of <end of turn> already; it is not
 * read twice.  The first message is rendered as it is; BOS, the system prompt and whatever else
 * stands before the first user turn become the pinned tokens.
 *
 * Text of a message that spells a special token stays text: then the template's words and the
 * message are tokenized apart.  All other messages are tokenized as one text with the template's
 * words, as transformers does.
 *
 * Test: tests/engine/test_chat.c.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* What stands for a user's and an assistant's words: control characters no template asks for. */
static const char USER[] = "\x02u\x02", ASSISTANT[] = "\x02"
                                                      "a\x02";

enum { LEAST_SINKS = 4 };

typedef struct rendered { /* a message in the template's words */
    buffer text;          /* what is to be read */
    size_t end;           /* bytes in front that close the turn before */
    size_t pinned;        /* bytes in front that stay for ever; first message only */
    size_t message;       /* where the message's own words begin */
} rendered;

void chat_clear(chat *c) {
    mem_free(c->system);
    *c = (chat){.last_token = -1};
}

/* ---- rendering */

static bool add(json_t *messages, const char *role, const char *content) {
    return json_array_append_new(messages,
                                 json_pack("{s:s,s:s}", "role", role, "content", content)) == 0;
}

static json_t *conversation(const weir_session *s) {
    json_t *messages = json_array();
    if (messages && s->chat.system && !add(messages, "system", s->chat.system)) {
        json_decref(messages);
        return NULL;
    }
    return messages;
}

/* [system] user: text; NULL when out of memory or the text is not UTF-8. */
static json_t *with_user(const weir_session *s, const char *text) {
    json_t *messages = conversation(s);
    if (!messages || add(messages, "user", text)) return messages;
    json_decref(messages);
    return NULL;
}

static const char *token_text(const weir_engine *e, int32_t id) {
    const char *text = id >= 0 ? tokenizer_token_text(e->tokenizer, id) : NULL;
    return text ? text : "";
}

/* Renders messages, whose reference it takes; NULL is out of memory. */
static weir_status render(const weir_session *s, json_t *messages, bool is_open, buffer *out,
                          weir_error *err) {
    const weir_engine *e = s->engine;
    json_t *context = json_pack(
        "{s:o,s:b,s:s,s:s,s:I}", "messages", messages, "add_generation_prompt", (int)is_open,
        "bos_token", token_text(e, tokenizer_bos(e->tokenizer)), "eos_token",
        token_text(e, tokenizer_eos(e->tokenizer)), TEMPLATE_NOW, (json_int_t)s->chat.now);
    if (!context) return weir_fail(err, WEIR_ERR_ARGUMENT, "the message is not UTF-8");
    const weir_status status = template_render(e->chat_template, context, out, err);
    json_decref(context);
    return status;
}

/* [system] U A [role: text], from behind A; text NULL: no further message. */
static weir_status render_after(const weir_session *s, const char *role, const char *text,
                                bool is_open, buffer *out, weir_error *err) {
    json_t *messages = with_user(s, USER);
    buffer all = {0};
    if (messages) {
        const bool ok =
            add(messages, "assistant", ASSISTANT) && (!text || add(messages, role, text));
        if (!ok) {
            json_decref(messages);
            messages = NULL;
        }
    }
    weir_status status = render(s, messages, is_open, &all, err);
    if (status == WEIR_OK) {
        const char *a = all.data ? strstr(all.data, ASSISTANT) : NULL;
        if (!a) {
            status = weir_fail(err, WEIR_ERR_MODEL,
                               "the chat template hides the words of the assistant");
        } else {
            a += strlen(ASSISTANT);
            if (!buffer_append(out, a, all.size - (size_t)(a - all.data))) {
                status = weir_fail(err, WEIR_ERR_MEMORY, "no memory for a message");
            }
        }
    }
    buffer_clear(&all);
    return status;
}

static size_t common_prefix(const buffer *a, const buffer *b) {
    const size_t n = MIN_OF(a->size, b->size);
    size_t i = 0;
    while (i < n && a->data[i] == b->data[i]) i++;
    return i;
}

/* What closes an assistant's turn; empty where the template writes nothing. */
static weir_status render_end(const weir_session *s, buffer *out, weir_error *err) {
    return render_after(s, NULL, NULL, false, out, err);
}

/* The words in front of a later user's message: what render_after gives between end and U. */
static weir_status render_header(const weir_session *s, buffer *out, weir_error *err) {
    buffer end = {0}, after = {0};
    weir_status status = render_end(s, &end, err);
    if (status == WEIR_OK) status = render_after(s, "user", USER, true, &after, err);
    if (status == WEIR_OK && after.size) {
        const char *u = strstr(after.data, USER);
        const size_t skip = common_prefix(&end, &after) == end.size ? end.size : 0;
        if (u && (size_t)(u - after.data) > skip &&
            !buffer_append(out, after.data + skip, (size_t)(u - after.data) - skip)) {
            status = weir_fail(err, WEIR_ERR_MEMORY, "no memory for a message");
        }
    }
    buffer_clear(&end);
    buffer_clear(&after);
    return status;
}

/* What stands between the prompt for a reply and its words (Llama 2: a space). */
static weir_status render_lead(const weir_session *s, buffer *out, weir_error *err) {
    buffer open = {0}, whole = {0};
    json_t *both = with_user(s, USER);
    weir_status status = render(s, with_user(s, USER), true, &open, err);
    if (both && !add(both, "assistant", ASSISTANT)) {
        json_decref(both);
        both = NULL;
    }
    if (status == WEIR_OK) {
        status = render(s, both, false, &whole, err);
    } else {
        json_decref(both);
    }
    if (status == WEIR_OK && whole.size && common_prefix(&open, &whole) == open.size) {
        const char *words = strstr(whole.data + open.size, ASSISTANT);
        const size_t size = words ? (size_t)(words - whole.data) - open.size : 0;
        if (!buffer_append(out, whole.data + open.size, size)) {
            status = weir_fail(err, WEIR_ERR_MEMORY, "no memory for a message");
        }
    }
    buffer_clear(&open);
    buffer_clear(&whole);
    return status;
}

/* The first message.  Pinned is all before the header of the user's turn. */
static weir_status render_first(const weir_session *s, const char *text, rendered *r,
                                weir_error *err) {
    buffer probe = {0}, header = {0};
    weir_status status = render(s, with_user(s, text), true, &r->text, err);
    if (status == WEIR_OK) status = render(s, with_user(s, USER), true, &probe, err);
    if (status == WEIR_OK) {
        r->message = common_prefix(&r->text, &probe);
        /* A template that refuses a second turn still has a first one. */
        if (render_header(s, &header, NULL) != WEIR_OK) header.size = 0;
        const bool ends_so =
            header.size && header.size <= r->message &&
            memcmp(r->text.data + r->message - header.size, header.data, header.size) == 0;
        r->pinned = r->message - (ends_so ? header.size : 0);
    }
    buffer_clear(&probe);
    buffer_clear(&header);
    return status;
}

static void drop_front(rendered *r, size_t size) {
    memmove(r->text.data, r->text.data + size, r->text.size - size + 1);
    r->text.size -= size;
    r->end -= MIN_OF(size, r->end);
    r->message -= MIN_OF(size, r->message);
}

/* A model that ended its own turn wrote the end token itself: what a template puts in front of that
 * token (Llama 2: a space) is not read either. */
static size_t size_of_end_read(const weir_session *s, const rendered *r) {
    if (!tokenizer_is_end(s->engine->tokenizer, s->chat.last_token)) return 0;
    const char *last = token_text(s->engine, s->chat.last_token);
    const size_t at = strspn(r->text.data, " \t\r\n"), n = strlen(last);
    const bool is_there = n <= r->text.size - at && memcmp(r->text.data + at, last, n) == 0;
    return is_there ? at + n : 0;
}

/* A later message.  In front stands the end of the reply, unless that is in the stream already. */
static weir_status render_later(const weir_session *s, const char *role, const char *text,
                                bool is_open, rendered *r, weir_error *err) {
    buffer probe = {0}, end = {0};
    weir_status status = render_after(s, role, text, is_open, &r->text, err);
    if (status == WEIR_OK) status = render_after(s, role, USER, is_open, &probe, err);
    if (status == WEIR_OK) status = render_end(s, &end, err);
    if (status == WEIR_OK && r->text.size) {
        r->message = common_prefix(&r->text, &probe);
        r->end = common_prefix(&r->text, &end) == end.size ? end.size : 0;
        drop_front(r, s->chat.is_closed ? r->end : size_of_end_read(s, r));
    }
    buffer_clear(&probe);
    buffer_clear(&end);
    return status;
}

/* ---- tokens */

typedef struct ids { /* heap */
    int32_t *at;
    size_t n;
} ids;

static weir_status append_encoded(const weir_engine *e, ids *out, const char *text, size_t size,
                                  int flags, weir_error *err) {
    if (!size) return WEIR_OK;
    int32_t *more;
    size_t n;
    WEIR_TRY(tokenizer_encode(e->tokenizer, text, size, flags, &more, &n, err));
    int32_t *grown = n ? mem_grow(out->at, size_add(out->n, n), sizeof *grown) : out->at;
    if (n && !grown) {
        mem_free(more);
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for %zu tokens", n);
    }
    if (n) memcpy(grown + out->n, more, n * sizeof *more);
    out->at = grown;
    out->n += n;
    mem_free(more);
    return WEIR_OK;
}

/* True when text holds the spelling of a special token. */
static weir_status spells_special(const weir_engine *e, const char *text, bool *out,
                                  weir_error *err) {
    ids plain = {0}, special = {0};
    const size_t size = strlen(text);
    weir_status status = append_encoded(e, &plain, text, size, 0, err);
    if (status == WEIR_OK) {
        status = append_encoded(e, &special, text, size, WEIR_PARSE_SPECIAL, err);
    }
    if (status == WEIR_OK) {
        *out = plain.n != special.n ||
               (plain.n && memcmp(plain.at, special.at, plain.n * sizeof *plain.at) != 0);
    }
    mem_free(plain.at);
    mem_free(special.at);
    return status;
}

/* The template's words around, the message's own words as text. */
static weir_status encode_apart(const weir_engine *e, const rendered *r, const char *text, ids *out,
                                weir_error *err) {
    const char *space = " \t\r\n";
    const char *begin = text + strspn(text, space);
    size_t size = strlen(begin);
    while (size && strchr(space, begin[size - 1])) size--;
    const size_t at = r->message + (size_t)(begin - text);
    const bool is_kept = at + size <= r->text.size && !memcmp(r->text.data + at, begin, size);
    const size_t start = is_kept ? at : r->message;
    if (start + size > r->text.size || memcmp(r->text.data + start, begin, size) != 0) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "the message spells a special token and the chat template changes it: "
                         "rephrase the message");
    }
    const size_t end = start + size;
    WEIR_TRY(append_encoded(e, out, r->text.data, start, WEIR_PARSE_SPECIAL, err));
    WEIR_TRY(append_encoded(e, out, r->text.data + start, size, 0, err));
    return append_encoded(e, out, r->text.data + end, r->text.size - end, WEIR_PARSE_SPECIAL, err);
}

static weir_status encode(const weir_engine *e, const rendered *r, const char *text, ids *out,
                          weir_error *err) {
    bool is_special = false;
    WEIR_TRY(spells_special(e, text, &is_special, err));
    if (is_special) return encode_apart(e, r, text, out, err);
    return append_encoded(e, out, r->text.data, r->text.size, WEIR_PARSE_SPECIAL, err);
}

/* How many tokens lie wholly in the first size bytes of what they spell. */
static weir_status count_within(const weir_engine *e, const ids *all, size_t size, size_t *n,
                                weir_error *err) {
    detokenizer d = {0};
    buffer text = {0};
    weir_status status = WEIR_OK;
    for (*n = 0; *n < all->n && status == WEIR_OK; ++*n) {
        if (!detokenizer_push(&d, e->tokenizer, all->at[*n], true, &text)) {
            status = weir_fail(err, WEIR_ERR_MEMORY, "no memory for the system prompt");
        } else if (text.size + (size_t)d.n_held > size) {
            break;
        }
    }
    buffer_clear(&text);
    return status;
}

/* ---- saying */

/* BOS and the system prompt stay for ever, unless the session was told how much to pin. */
static weir_status pin_first(weir_session *s, size_t n, weir_error *err) {
    if (s->options.sinks != 0 || s->window.mode != WEIR_STREAMING) return WEIR_OK;
    if (n > (size_t)s->window.max_pins) {
        return weir_fail(
            err, WEIR_ERR_ARGUMENT,
            "the system prompt has %zu tokens, room to pin is %d (max_sinks): open the "
            "engine with a larger window or max_sinks",
            n, s->window.max_pins);
    }
    s->window.sinks = MIN_OF(MAX_OF((int)n, LEAST_SINKS), s->window.max_pins);
    return WEIR_OK;
}

static weir_status read_first(weir_session *s, const rendered *r, const char *text,
                              weir_error *err) {
    ids all = {0};
    size_t n = 0;
    weir_status status = encode(s->engine, r, text, &all, err);
    if (status == WEIR_OK) status = count_within(s->engine, &all, r->pinned, &n, err);
    if (status == WEIR_OK) status = pin_first(s, n, err);
    if (status == WEIR_OK) status = weir_session_feed(s, all.at, n, err);
    if (status == WEIR_OK) {
        window_mark_turn(&s->window);
        status = weir_session_feed(s, all.at + n, all.n - n, err);
    }
    mem_free(all.at);
    return status;
}

/* A token that crosses from the end of the turn before into this message begins the turn. */
static weir_status read_later(weir_session *s, const rendered *r, const char *text, bool is_turn,
                              weir_error *err) {
    ids all = {0};
    size_t n = 0;
    weir_status status = encode(s->engine, r, text, &all, err);
    if (status == WEIR_OK && is_turn) status = count_within(s->engine, &all, r->end, &n, err);
    if (status == WEIR_OK) status = weir_session_feed(s, all.at, n, err);
    if (status == WEIR_OK) {
        if (is_turn) window_mark_turn(&s->window);
        status = weir_session_feed(s, all.at + n, all.n - n, err);
    }
    mem_free(all.at);
    return status;
}

static weir_status keep_system(weir_session *s, const char *text, weir_error *err) {
    const size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    if (!copy) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for the system prompt");
    memcpy(copy, text, size);
    mem_free(s->chat.system);
    s->chat.system = copy;
    return WEIR_OK;
}

static weir_status say_first(weir_session *s, weir_role role, const char *text, weir_error *err) {
    if (s->window.pos != s->window.start) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "the stream began with plain text: reset the session before a chat");
    }
    if (role == WEIR_SYSTEM) return keep_system(s, text, err);
    if (role != WEIR_USER) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "a chat begins with a system or user message");
    }
    rendered r = {0};
    weir_status status = render_first(s, text, &r, err);
    if (status == WEIR_OK && !r.text.size) {
        status = weir_fail(err, WEIR_ERR_MODEL, "the chat template makes nothing of the message");
    }
    if (status == WEIR_OK) status = read_first(s, &r, text, err);
    if (status == WEIR_OK) {
        s->chat.has_user = true;
        s->chat.asked_at = s->window.pos;
    }
    buffer_clear(&r.text);
    return status;
}

static weir_status say_later(weir_session *s, weir_role role, const char *text, weir_error *err) {
    static const char *const names[] = {"system", "user", "assistant", "tool"};
    const bool is_open = role != WEIR_SYSTEM;
    rendered r = {0};
    weir_status status = render_later(s, names[role], text, is_open, &r, err);
    if (status == WEIR_OK && !r.text.size) {
        status = weir_fail(err, WEIR_ERR_MODEL, "the chat template makes nothing of the message");
    }
    if (status == WEIR_OK) status = read_later(s, &r, text, role == WEIR_USER, err);
    if (status == WEIR_OK) {
        s->chat.is_closed = !is_open;
        s->chat.asked_at = s->window.pos;
    }
    buffer_clear(&r.text);
    return status;
}

/* Words put into the model's mouth; the header was read with the question. */
static weir_status say_reply(weir_session *s, const char *text, weir_error *err) {
    rendered r = {0};
    weir_status status = WEIR_OK;
    const bool is_first = s->window.pos == s->chat.asked_at;
    if (is_first) status = render_lead(s, &r.text, err);
    r.message = r.text.size;
    if (status == WEIR_OK && !buffer_append(&r.text, text, strlen(text))) {
        status = weir_fail(err, WEIR_ERR_MEMORY, "no memory for a message");
    }
    if (status == WEIR_OK) status = read_later(s, &r, text, false, err);
    if (status == WEIR_OK) s->chat.is_closed = false;
    buffer_clear(&r.text);
    return status;
}

weir_status weir_session_say(weir_session *s, weir_role role, const char *text, weir_error *err) {
    const weir_engine *e = s->engine;
    WEIR_TRY(engine_check_text(e, err));
    if (!e->chat_template) {
        return weir_fail(err, WEIR_ERR_MODEL, "a chat needs a template: %s", e->template_problem);
    }
    if ((unsigned)role > WEIR_TOOL) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "role %d: not known", (int)role);
    }
    reply_close(&s->reply);
    if (!s->chat.now) s->chat.now = (int64_t)time(NULL);
    if (!s->chat.has_user) return say_first(s, role, text, err);
    return role == WEIR_ASSISTANT ? say_reply(s, text, err) : say_later(s, role, text, err);
}
