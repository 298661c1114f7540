/* template.h - chat templates: the Jinja subset that released models use, byte for byte.
 *
 *     source --lexer--> tokens --parser--> tree --interpreter(messages)--> text
 *
 * Semantics are Python jinja2's with trim_blocks, lstrip_blocks and loop controls, plus
 * raise_exception, strftime_now and tojson as transformers defines them.  What the subset does not
 * know is an error that names line and construct.  Templates are hostile: recursion, loops and
 * output are bounded, and every step is counted.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"

#include <jansson.h>

typedef struct chat_template chat_template;

/* Compiles; source is copied.  On failure *out is NULL and the message has the line. */
weir_status template_compile(chat_template **out, const char *source, size_t size, weir_error *err);
void template_free(chat_template *t); /* accepts NULL */

/* Renders with the variables in the JSON object `context` (messages, tools, bos_token, eos_token,
 * add_generation_prompt, ...) and appends to out, which is left as it was on failure.  A call of
 * raise_exception is WEIR_ERR_FORMAT with its text.  strftime_now tells the local time, of now or
 * of the integer TEMPLATE_NOW (seconds since 1970) in the context. */
#define TEMPLATE_NOW "now"
weir_status template_render(const chat_template *t, const json_t *context, buffer *out,
                            weir_error *err);
