/* check.c - the helpers of check.h.
 *
 * SPDX-License-Identifier: MIT */
#include "support/check.h"

#include "base/rng.h"

#include <math.h>

void check_status(weir_status status, weir_status wanted, const weir_error *err, const char *words,
                  const char *file, int line) {
    const bool has_words = wanted == WEIR_OK || strstr(err->message, words);
    if (status == wanted && has_words) return;
    print_error("%s:%d: status \"%s\", wanted \"%s\"; message \"%s\", wanted \"...%s...\"\n", file,
                line, weir_status_text(status), weir_status_text(wanted), err->message, words);
    _fail(file, line);
}

void random_ids(int32_t *ids, int n, int vocab, uint64_t seed) {
    rng r = {seed};
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(rng_next(&r) % (uint64_t)vocab);
}

double row_error(const float *got, const float *wanted, int n) {
    double difference = 0, largest = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(got[i])) return INFINITY;
        difference = fmax(difference, fabs((double)got[i] - (double)wanted[i]));
        largest = fmax(largest, fabs((double)wanted[i]));
    }
    return difference / largest;
}
