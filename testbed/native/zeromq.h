/* Sockets of ZeroMQ that Python opened, used without Python: by their handles, through the functions of the libzmq that pyzmq has
 * loaded. Reference: zmq.h of ZeroMQ 4, whose interface is stable, so no header of it is needed to build.
 *
 * A socket's descriptor (ZMQ_FD) is edge-triggered: it becomes readable when something may have changed, and any call on the socket may
 * take that notice away. So whoever blocks on it asks for ZMQ_EVENTS behind everything else it did with the socket, and again whenever
 * it wakes. */
#pragma once
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
  int (*send)(void *socket, const void *bytes, size_t size, int flags);
  int (*recv)(void *socket, void *bytes, size_t size, int flags);
  int (*getsockopt)(void *socket, int option, void *value, size_t *size);
  int (*error)(void);
} zeromq;

/* All return a negative errno where they fail. */

/* Send an empty message without blocking; 1, or 0 where the socket's queue is full or nobody listens. */
int zeromq_send(const zeromq *z, void *socket);

/* Receive and forget at most `most` messages without blocking; how many there were. */
int zeromq_drain(const zeromq *z, void *socket, int most);

/* 1 where a message can be received, else 0. */
int zeromq_readable(const zeromq *z, void *socket);

/* The socket's descriptor. */
int zeromq_descriptor(const zeromq *z, void *socket);

/* Block until one of `files` can be read, for `timeout_ns` at most, forever where that is negative. The first `sockets_n` files are those
 * of `sockets`. Returns how many can be read, of sockets those with a message; `revents` says which. */
int zeromq_wait(const zeromq *z, void *const *sockets, int sockets_n, struct pollfd *files, int files_n, int64_t timeout_ns);
