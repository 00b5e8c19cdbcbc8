/* A command of the control queue: what the driver wrote, and the byte for the answer. virtio 1.2 §5.1.6.5. */
#pragma once
#include "receive.h"

#define COMMAND_BYTES_MAX 4096

struct command {
  uint8_t bytes[COMMAND_BYTES_MAX];
  uint32_t len;
  uint8_t *status;
  uint32_t id;
  uint16_t descriptors;
};

/* Read the next command; return 0, -1 where there is none, or the fault. */
static inline __attribute__((always_inline)) int take_command(void *queue, peek_fn peek, struct cursor *at, struct command *command) {
  struct segment room[FRAME_SEGMENTS_MAX];
  struct chain c = {.direction = DEVICE_BOTH, .segments = room, .room = FRAME_SEGMENTS_MAX};
  int got = peek(queue, at, &c);
  if (got <= 0) return got ? -got : -1;
  if (!c.writing) return FAULT(header);
  command->len = 0;
  for (uint32_t i = 0; i < c.writable_from; i++) {
    if (room[i].len > COMMAND_BYTES_MAX - command->len) return FAULT(length);
    memcpy(command->bytes + command->len, room[i].host, room[i].len);
    command->len += room[i].len;
  }
  command->status = room[c.writable_from].host;
  command->id = c.id, command->descriptors = c.descriptors;
  return 0;
}
