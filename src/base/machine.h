/* machine.h - what the machine gives this process.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

/* Memory the process may use, bytes: the machine's, or less where its control group says so. */
uint64_t machine_memory(void);

/* Seconds on a clock that only goes forward. */
double machine_clock(void);
