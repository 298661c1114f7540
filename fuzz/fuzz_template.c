/* fuzz_template.c - any bytes as a chat template, rendered for one conversation with tools.
 *
 * Corpus: fuzz/corpus/template.
 *
 * SPDX-License-Identifier: MIT */
#include "text/template.h"

#include "base/unicode.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char context_text[] =
    "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_generation_prompt\": true,"
    " \"now\": 1753012345, \"n\": 3, \"half\": 0.5, \"nothing\": null, \"text\": \" a\\tb "
    "\\u00e9\","
    " \"list\": [3, 1, \"x\", [2]], \"map\": {\"b\": 1, \"a\": [1, {\"c\": true}]},"
    " \"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"},"
    "  {\"role\": \"user\", \"content\": \"Hi <b> \\u4e16\"},"
    "  {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"abcdefghi\","
    "   \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1}}}]},"
    "  {\"role\": \"tool\", \"content\": \"7\", \"tool_call_id\": \"abcdefghi\"}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"F\","
    "  \"parameters\": {\"type\": \"object\", \"properties\": {\"x\": {\"type\": "
    "\"integer\"}}}}}]}";

/* What comes out is text; what fails leaves nothing behind. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_t *context;
    if (!context) context = json_loads(context_text, 0, NULL);
    if (!context) abort();
    chat_template *t;
    weir_error err;
    if (template_compile(&t, (const char *)data, size, &err) != WEIR_OK) {
        if (t || !err.message[0]) abort();
        return 0;
    }
    buffer out = {0};
    const weir_status status = template_render(t, context, &out, &err);
    if (status != WEIR_OK && (out.size || !err.message[0])) abort();
    if (out.size && !utf8_is_valid(out.data, out.size)) abort();
    buffer_clear(&out);
    template_free(t);
    return 0;
}
