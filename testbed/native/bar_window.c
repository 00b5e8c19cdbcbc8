#include "bar_window.h"
#include "trace.h"

#define SLOT(n) ((n) & (BAR_WINDOW_POSTED_MAX - 1))
#define FUNCTION_MASK ((1u << BAR_WINDOW_SPACE_SHIFT) - 1)

static bar_write_t *slot(bar_window_t *w, uint32_t number) { return (bar_write_t *)w->posted + SLOT(number); }

int bar_room(void *requester) {
  struct bar_requester *r = requester;
  return r->produced - load_acquire(&r->window->consumed) < BAR_WINDOW_POSTED_MAX;
}

/* Post one write; false where the ring is full. */
bool bar_post(struct bar_requester *r, uint32_t target, uint32_t offset, uint64_t value) {
  if (unlikely(!bar_room(r))) return false;
  trace_event(TRACE_REGISTER_POSTED, 0, target & FUNCTION_MASK, offset, value, target >> BAR_WINDOW_SPACE_SHIFT);
  *slot(r->window, r->produced) = (bar_write_t){.offset = offset, .target = target, .value = value};
  /* release: who acquires the count sees the write, and everything that the driver wrote to memory before it */
  store_release(&r->window->produced, ++r->produced);
  return true;
}

/* Ask for a register; the answer comes behind every write posted before. */
void bar_ask(struct bar_requester *r, uint32_t target, uint32_t offset) {
  store_relaxed(&r->window->read_target, target);
  store_relaxed(&r->window->read_offset, offset);
  /* release: who acquires the number sees what is asked, and the count of posted writes */
  store_release(&r->window->read_number, ++r->asked);
}

bool bar_answer(const struct bar_requester *r, uint64_t *value) {
  if (load_acquire(&r->window->reply_number) != r->asked) return false;
  *value = load_relaxed(&r->window->reply_value);
  return true;
}

int bar_pending(void *completer) {
  struct bar_completer *c = completer;
  return load_acquire(&c->window->produced) != c->consumed || load_acquire(&c->window->read_number) != c->answered;
}

static doorbell_word_t *find_doorbell(const struct bar_completer *c, const bar_write_t *write) {
  for (uint32_t i = 0; i < c->doorbells_n; i++)
    if (c->doorbells[i].offset == write->offset && c->doorbells[i].target == write->target) return c->doorbells[i].word;
  return NULL;
}

/* Take posted writes in order: those to doorbells are done here, the first other one is returned; false: none is left. */
bool bar_take(struct bar_completer *c, bar_write_t *write) {
  doorbell_word_t *last = NULL;
  for (uint32_t budget = BAR_WINDOW_POSTED_MAX; budget; budget--) {
    uint32_t produced = load_acquire(&c->window->produced);
    if (produced == c->consumed) return false;
    if (unlikely(produced - c->consumed > BAR_WINDOW_POSTED_MAX)) {
      c->overruns++;
      c->consumed = produced;
      store_release(&c->window->consumed, c->consumed);
      return false;
    }
    const bar_write_t *from = slot(c->window, c->consumed);
    *write = (bar_write_t){.offset = load_relaxed(&from->offset), .target = load_relaxed(&from->target),
                           .value = load_relaxed(&from->value)};
    if (c->fixed_function) write->target = (write->target & ~FUNCTION_MASK) | c->function;
    trace_event(TRACE_REGISTER_TAKEN, 0, write->target & FUNCTION_MASK, write->offset, write->value, write->target >> BAR_WINDOW_SPACE_SHIFT);
    store_release(&c->window->consumed, ++c->consumed);
    doorbell_word_t *word = find_doorbell(c, write);
    if (!word) return true;
    word->value = (uint32_t)write->value;
    word->writes++;
    if (word == last) c->coalesced++;
    last = word;
  }
  return false;
}

/* Take the doorbells in front of everything else; true: an access waits that is none, and is left where it is. */
bool bar_take_doorbells(struct bar_completer *c) {
  doorbell_word_t *last = NULL;
  if (unlikely(c->paused)) return false;
  for (uint32_t budget = BAR_WINDOW_POSTED_MAX; budget; budget--) {
    uint32_t produced = load_acquire(&c->window->produced);
    if (produced == c->consumed) break;
    if (unlikely(produced - c->consumed > BAR_WINDOW_POSTED_MAX)) return true;
    const bar_write_t *from = slot(c->window, c->consumed);
    bar_write_t write = {.offset = load_relaxed(&from->offset), .target = load_relaxed(&from->target),
                         .value = load_relaxed(&from->value)};
    if (c->fixed_function) write.target = (write.target & ~FUNCTION_MASK) | c->function;
    doorbell_word_t *word = find_doorbell(c, &write);
    if (!word) return true;
    store_release(&c->window->consumed, ++c->consumed);
    word->value = (uint32_t)write.value;
    word->writes++;
    if (word == last) c->coalesced++;
    last = word;
  }
  return load_acquire(&c->window->produced) == c->consumed && bar_pending(c);
}

/* Return what is to be read, where a read waits and every write posted before it was taken. */
bool bar_take_read(struct bar_completer *c, uint32_t *target, uint32_t *offset) {
  uint32_t number = load_acquire(&c->window->read_number);
  if (number == c->answered || load_acquire(&c->window->produced) != c->consumed) return false;
  *target = load_relaxed(&c->window->read_target), *offset = load_relaxed(&c->window->read_offset);
  if (c->fixed_function) *target = (*target & ~FUNCTION_MASK) | c->function;
  c->answered = number;
  return true;
}

void bar_reply(struct bar_completer *c, uint64_t value) {
  store_relaxed(&c->window->reply_value, value);
  /* release: who acquires the number sees the value */
  store_release(&c->window->reply_number, c->answered);
}
