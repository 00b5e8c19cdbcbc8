/* Register accesses between two processes: a ring of posted writes, and one read at a time. See testbed/spec/bar_window.py. */
#pragma once
#include "layouts.h"
#include "order.h"

/* Where a device keeps a tail register that is written once a burst: no Python takes that write. */
typedef struct {
  uint32_t value;
  uint64_t writes;
} doorbell_word_t;

#define BAR_DOORBELLS_MAX 128
struct bar_doorbell { uint32_t target, offset; doorbell_word_t *word; };

/* The device's side. The other side may write anything at any time into the window. */
struct bar_completer {
  bar_window_t *window;
  uint32_t consumed, answered;
  bool fixed_function;
  uint32_t function;
  uint32_t doorbells_n;
  bool paused; /* its driver has made too many accesses: none is taken, doorbells behind them neither */
  uint64_t overruns; /* more writes claimed than the ring holds */
  uint64_t coalesced; /* doorbells written again before anybody looked */
  struct bar_doorbell doorbells[BAR_DOORBELLS_MAX];
};

/* The driver's side; the device may be gone or lie, so what it says is bounded, too. */
struct bar_requester { bar_window_t *window; uint32_t produced, asked; };

bool bar_post(struct bar_requester *r, uint32_t target, uint32_t offset, uint64_t value);
void bar_ask(struct bar_requester *r, uint32_t target, uint32_t offset);
bool bar_answer(const struct bar_requester *r, uint64_t *value);
int bar_room(void *requester);

int bar_pending(void *completer);
bool bar_take_doorbells(struct bar_completer *c);
bool bar_take(struct bar_completer *c, bar_write_t *write);
bool bar_take_read(struct bar_completer *c, uint32_t *target, uint32_t *offset);
void bar_reply(struct bar_completer *c, uint64_t value);
