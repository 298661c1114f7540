/* template_none.c - stands in until the interpreter of chat templates is here: refuses them all.
 *
 * SPDX-License-Identifier: MIT */
#include "text/template.h"

weir_status template_compile(chat_template **out, const char *source, size_t size,
                             weir_error *err) {
    (void)source;
    (void)size;
    *out = NULL;
    return weir_fail(err, WEIR_ERR_MODEL, "chat templates cannot be run yet");
}

void template_free(chat_template *t) {
    (void)t;
}

weir_status template_render(const chat_template *t, const json_t *context, buffer *out,
                            weir_error *err) {
    (void)t;
    (void)context;
    (void)out;
    return weir_fail(err, WEIR_ERR_MODEL, "chat templates cannot be run yet");
}
