/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libFuzzer calls, and what stands in for it in a unit test
 */

#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

/* Returns 0: the input was used. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* TESTS_FUZZ_FUZZ_H */
