/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libFuzzer calls, and what stands in for it in a unit test
 */

#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

/* Returns 0: the input was used. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Called once, before that */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Returns: the new size of @data, at most @max_size */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);

/* Returns: the size of @out, at most @max_size */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1,
                                 const uint8_t *data2, size_t size2,
                                 uint8_t *out, size_t max_size, unsigned seed);

/* libFuzzer's own, for bytes */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

#endif /* TESTS_FUZZ_FUZZ_H */
