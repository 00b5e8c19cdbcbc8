/* Marks what a device writes into guest memory in a log of dirty pages. vhost-user, Migration; one bit a page, set atomically, for the
 * front end clears bits at the same time.
 *
 * A bit must be set after the bytes are written, or the page could be copied away in between; and by then a used descriptor may not say
 * any more which buffer it was. So the buffers that a delivery may take are noted before it (`collect`), and those that it took are
 * marked after it and before they are published (`mark`). Only while a migration is under way; it need not be fast. */
#pragma once
#include "packed_device.h"
#include "split_device.h"

struct dirty_range { uint64_t gpa; uint32_t len, slot; }; /* slot: ring slots between the device's place and the buffer's chain */
struct dirty_ranges { uint32_t n, room; struct dirty_range *range; struct cursor from; };

void dirty_mark(uint8_t *log, uint64_t log_bytes, uint64_t gpa, uint64_t length);
/* Note every buffer that is available; false where memory for the notes ran out. */
bool dirty_collect_split(const struct split_device *q, struct dirty_ranges *to);
bool dirty_collect_packed(const struct packed_device *q, struct dirty_ranges *to);
void dirty_mark_split(uint8_t *log, uint64_t log_bytes, const struct split_device *q, const struct dirty_ranges *noted);
void dirty_mark_packed(uint8_t *log, uint64_t log_bytes, const struct packed_device *q, const struct dirty_ranges *noted);
