/*
 * libqos: snapshots of the machine, and back to them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_SNAPSHOT_H
#define TESTS_LIBQOS_SNAPSHOT_H

#include "libqtest.h"

/** snapshot_image: give the machine an image that holds snapshots, at @path */
void snapshot_image(QTestState *qts, const char *path);

/** snapshot_open: one that another machine got by snapshot_image() */
void snapshot_open(QTestState *qts, const char *path);

/**
 * snapshot_run: run the job snapshot-save or snapshot-load
 *
 * Returns: an error's text, or NULL; g_free()
 */
char *snapshot_run(QTestState *qts, const char *command);

/**
 * snapshot_save, snapshot_load: the one snapshot there is
 *
 * The machine stands still meanwhile, and runs afterwards.
 */
void snapshot_save(QTestState *qts);
void snapshot_load(QTestState *qts);

#endif
