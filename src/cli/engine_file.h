/* engine_file.h - what `weir build` and `weir info` say of an engine file.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "weir/weir.h"

void engine_file_print(const weir_engine_file_info *info, const char *path, bool as_json);
