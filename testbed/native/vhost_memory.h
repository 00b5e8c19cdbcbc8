/* Memory that a peer shares by file descriptor, mapped so that a file which the peer cuts short harms only the peer.
 *
 * An access behind the end of a mapped file raises SIGBUS, in whatever code makes it (mmap(2)). The handler here puts zeroed memory of
 * our own where the file was and marks the mapping as lost: the access goes on and reads zeros, and whoever owns the mapping ends the
 * peer's session when it next looks. A SIGBUS anywhere else goes to whoever handled it before. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARED_FILES_MAX 1024

struct shared_file {
  uint8_t *volatile at; /* NULL: this slot is free */
  size_t bytes;
  volatile bool lost;
};

/* Map `bytes` of a file from `offset` on, both multiples of its page size; NULL with errno where that cannot be. */
struct shared_file *shared_file_map(int descriptor, uint64_t offset, size_t bytes, bool writable);
void shared_file_unmap(struct shared_file *file);
