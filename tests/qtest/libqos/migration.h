/*
 * libqos: migration into a file, and out of it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_MIGRATION_H
#define TESTS_LIBQOS_MIGRATION_H

#include "libqtest.h"

/** migration_wait: until it is over; true if it is "completed" */
bool migration_wait(QTestState *qts);

/** migration_save: all of the machine into @path, which has to work */
void migration_save(QTestState *qts, const char *path);

/**
 * migration_start_load: begin to load what is at @uri
 *
 * The machine was started with "-incoming defer", and lives on if it fails.
 */
void migration_start_load(QTestState *qts, const char *uri);

/** migration_load: what is in @path. Returns: false if it was refused. */
bool migration_load(QTestState *qts, const char *path);

#endif
