/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of places, which the slots of the GFN index hold
 */

#include "qemu/osdep.h"
#include "place-set.h"

/* From this room on, a set that shrinks is worth PlaceMemory.shrunk. */
#define ARRAY_ROOM_LARGE 62

/* What an array costs beside a slot; and keys that are looked at meanwhile. */
#define ARRAY_WORK 8
#define ARRAY_SEEN 16

/* Rooms are 2, 6, 14, ...: with what malloc() adds, powers of two. */
static size_t array_size(unsigned room)
{
    return sizeof(PlaceArray) + room * sizeof(uint64_t);
}

/* Where @key is; a->nr if it is not there. The last one is found first. */
static unsigned array_search(const PlaceArray *a, uint64_t key)
{
    unsigned i = a->nr;

    /* Several at a time while there are many: one comparison of a vector. */
    for (; i >= 8; i -= 8) {
        const uint64_t *k = &a->key[i - 8];
        uint64_t found = 0;

        for (unsigned j = 0; j < 8; j++) {
            found |= k[j] == key;
        }
        if (found) {
            break;
        }
    }
    for (; i; i--) {
        if (a->key[i - 1] == key) {
            return i - 1;
        }
    }
    return a->nr;
}

static size_t array_cost(unsigned room)
{
    return room ? node_pool_heap_cost(array_size(room)) : 0;
}

/* What it takes less than the budget has for @nr places is reserved. */
static size_t array_reserve(unsigned nr, unsigned room)
{
    return (nr - 1) * PLACE_SET_PLACE_BYTES - array_cost(room);
}

void place_memory_reserve(PlaceMemory *mem, size_t more)
{
    mem->reserved += more;
    mem->budget->reserved += more;
}

static PlaceArray *array_resize(PlaceMemory *mem, PlaceArray *a, unsigned room)
{
    unsigned old = a ? a->room : 0;

    a = node_pool_heap_realloc(mem->budget->pool, a,
                               old ? array_size(old) : 0, array_size(room));
    if (a) {
        a->room = room;
        place_memory_reserve(mem, array_cost(old) - array_cost(room));
    }
    return a;
}

/* The least that @nr fit into */
static unsigned array_room(unsigned nr)
{
    unsigned room = 2;

    while (room < nr) {
        room = room * 2 + 2;
    }
    return room;
}

void place_array_free(PlaceMemory *mem, PlaceArray *a)
{
    place_memory_reserve(mem, -array_reserve(a->nr, a->room));
    node_pool_heap_free(mem->budget->pool, a, array_size(a->room));
}

bool place_set_add_further(PlaceMemory *mem, PlaceSet *set, uint64_t key)
{
    PlaceArray *a;

    if (!mem->splitting &&
        !xen_pviommu_budget_allows(mem->budget, PLACE_SET_PLACE_BYTES)) {
        return false;
    }
    if (place_set_is_single(*set)) {
        a = array_resize(mem, NULL, 2);
        if (!a) {
            return false;
        }
        a->nr = 1;
        a->key[0] = *set >> 1;
    } else {
        a = place_set_array(*set);
        if (a->nr == a->room) {
            a = array_resize(mem, a, a->room * 2 + 2);
            if (!a) {
                return false;
            }
        }
    }
    a->key[a->nr++] = key;
    mem->work += ARRAY_WORK;
    place_memory_reserve(mem, PLACE_SET_PLACE_BYTES);
    *set = (uintptr_t)a;
    return true;
}

bool place_set_grow(PlaceMemory *mem, PlaceSet *set, unsigned nr,
                    PlaceArray **fresh)
{
    unsigned count = place_set_count(*set);
    PlaceArray *a = count < 2 ? NULL : place_set_array(*set);

    if (count + nr < 2 || (a && a->room >= count + nr)) {
        return true;
    }
    a = array_resize(mem, a, array_room(count + nr));
    if (count < 2) {
        *fresh = a;
    } else if (a) {
        *set = (uintptr_t)a;
    }
    return a;
}

void place_set_ungrow(PlaceMemory *mem, PlaceSet *set, PlaceArray *fresh)
{
    PlaceArray *a;

    if (fresh) {
        fresh->nr = 1;
        place_array_free(mem, fresh);
    } else if (*set && !place_set_is_single(*set)) {
        a = place_set_array(*set);
        if (a->room > array_room(a->nr)) {
            a = array_resize(mem, a, array_room(a->nr));
            *set = a ? (uintptr_t)a : *set;
        }
    }
}

void place_set_add_all(PlaceMemory *mem, PlaceSet *set, PlaceArray *fresh,
                       PlaceSet from, uint64_t more)
{
    unsigned nr = place_set_count(from), old = place_set_count(*set);
    PlaceArray *a;

    if (old + nr < 2) {
        *set = (place_set_key(from, 0) + more) << 1 | 1;
        return;
    }
    a = fresh ?: place_set_array(*set);
    if (fresh && old) {
        a->key[0] = *set >> 1;
    }
    for (unsigned i = 0; i < nr; i++) {
        a->key[old + i] = place_set_key(from, i) + more;
    }
    a->nr = old + nr;
    place_memory_reserve(mem, (size_t)PLACE_SET_PLACE_BYTES *
                              (old ? nr : nr - 1));
    mem->work += ARRAY_WORK + nr / ARRAY_SEEN;
    *set = (uintptr_t)a;
}

bool place_set_remove_further(PlaceMemory *mem, PlaceSet *set, uint64_t key)
{
    PlaceArray *a = place_set_array(*set), *smaller;
    unsigned i = array_search(a, key), room;

    mem->work += ARRAY_WORK + (a->nr - i) / ARRAY_SEEN;
    if (i == a->nr) {
        return false;
    }
    a->key[i] = a->key[--a->nr];
    place_memory_reserve(mem, -(size_t)PLACE_SET_PLACE_BYTES);
    if (a->nr == 1) {
        *set = a->key[0] << 1 | 1;
        place_array_free(mem, a);
        return true;
    }
    room = a->room / 2 - 1;
    if (a->nr <= room - room / 4) {
        mem->shrunk |= a->room >= ARRAY_ROOM_LARGE;
        smaller = array_resize(mem, a, room);
        *set = (uintptr_t)(smaller ?: a);
    }
    return true;
}

bool place_set_has(PlaceSet set, uint64_t key)
{
    if (!set || place_set_is_single(set)) {
        return set && set >> 1 == key;
    }
    return array_search(place_set_array(set), key) < place_set_array(set)->nr;
}

uint64_t place_set_lowest(PlaceMemory *mem, PlaceSet set, uint64_t key)
{
    uint64_t lowest = UINT64_MAX;

    for (unsigned i = 0; i < place_set_count(set); i++) {
        uint64_t k = place_set_key(set, i);

        lowest = k >= key && k < lowest ? k : lowest;
    }
    mem->work += place_set_count(set) / ARRAY_SEEN;
    return lowest;
}
