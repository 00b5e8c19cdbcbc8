#include "flow.h"

#include <sched.h>

#include "flow_hash.h"
#include "order.h"
#include "trace.h"

#define WORDS_MAX 16400 /* 65,600 bytes: any frame */
#define TAG FLOW_TAG_OFFSET
#define AT(member) (TAG + (uint32_t)offsetof(flow_tag_t, member))

static uint32_t weights[WORDS_MAX];

static void __attribute__((constructor)) make_weights(void) {
  uint64_t x = 0x2545F4914F6CDD1Dull;
  for (uint32_t i = 0; i < WORDS_MAX; i++) {
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    weights[i] = (uint32_t)((x * 0x9E3779B97F4A7C15ull) >> 32) | 1;
  }
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
__attribute__((target_clones("default", "avx2")))
#endif
static uint64_t sum_words(const uint8_t *bytes, uint32_t words) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < words; i++) {
    uint32_t w;
    memcpy(&w, bytes + 4 * i, 4);
    sum += (uint64_t)w * weights[i];
  }
  return sum;
}

/* Bytes behind what any frame has are not summed. */
static uint64_t sum_frame(const uint8_t *frame, uint32_t length) {
  if (unlikely(length > 4 * WORDS_MAX)) return sum_words(frame, WORDS_MAX) + length;
  uint32_t words = length / 4, tail = 0;
  uint64_t sum = sum_words(frame, words) + length;
  if (length % 4) {
    memcpy(&tail, frame + 4 * words, length % 4);
    sum += (uint64_t)tail * weights[words];
  }
  return sum;
}

static uint32_t fold(uint64_t sum) { return (uint32_t)(sum ^ sum >> 32); }

uint32_t flow_digest(const uint8_t *frame, uint32_t length) { return fold(sum_frame(frame, length)); }

static uint64_t word_part(uint32_t offset, uint32_t word) { return (uint64_t)word * weights[offset / 4]; }

static uint64_t sequence_part(uint64_t sequence) {
  return word_part(AT(sequence), (uint32_t)sequence) + word_part(AT(sequence) + 4, (uint32_t)(sequence >> 32));
}

/* One template a size: the headers as given, a payload that looks like nothing else, the tag with sequence and digest zero. */
void flow_template(struct flow_source *s, uint32_t which, uint32_t size, const uint8_t *headers) {
  uint8_t *frame = s->templates + (size_t)which * FLOW_FRAME_BYTES_MAX;
  flow_tag_t tag = {.magic = s->magic, .flow = s->flow};
  for (uint32_t i = 0; i < size; i++) frame[i] = (uint8_t)(i * 167 + which * 29 + s->flow);
  memcpy(frame, headers, TAG);
  memcpy(frame + TAG, &tag, sizeof tag);
  s->size[which] = size;
  s->base[which] = sum_frame(frame, size);
}

/* Has every reserved buffer room for a frame of so many bytes? */
bool flow_fits(const struct burst *reserved, uint32_t frame_bytes) {
  for (uint32_t i = 0; i < reserved->frames_n; i++)
    if (unlikely(reserved->segments[reserved->frames[i].first_segment].len < frame_bytes)) return false;
  return true;
}

void flow_fill(struct flow_source *s, struct burst *b) {
  for (uint32_t i = 0; i < b->frames_n; i++) {
    uint32_t which = s->next_size;
    s->next_size = which + 1 == s->sizes_n ? 0 : which + 1;
    uint8_t *to = b->segments[b->frames[i].first_segment].host;
    uint64_t sequence = s->sequence++;
    frame_copy(to, s->templates + (size_t)which * FLOW_FRAME_BYTES_MAX, s->size[which]);
    memcpy(to + AT(sequence), &sequence, sizeof sequence);
    uint32_t digest = fold(s->base[which] + sequence_part(sequence));
    memcpy(to + AT(digest), &digest, sizeof digest);
    b->frames[i].len = s->size[which];
  }
  trace_burst(TRACE_FRAME_MADE, b);
}

void replay_fill(struct replay_source *s, struct burst *b) {
  for (uint32_t i = 0; i < b->frames_n; i++) {
    uint32_t which = (uint32_t)(s->sequence++ % s->frames_n);
    uint32_t length = s->offsets[which + 1] - s->offsets[which];
    memcpy(b->segments[b->frames[i].first_segment].host, s->bytes + s->offsets[which], length);
    b->frames[i].len = length;
  }
}

static inline bool seen_test(const struct flow_sink *k, uint64_t n) { return k->seen[n % SEEN_WINDOW / 64] >> (n % 64) & 1; }
static inline void seen_set(struct flow_sink *k, uint64_t n) { k->seen[n % SEEN_WINDOW / 64] |= 1ull << (n % 64); }
static inline void seen_clear(struct flow_sink *k, uint64_t n) { k->seen[n % SEEN_WINDOW / 64] &= ~(1ull << (n % 64)); }

static void arrived(struct flow_sink *k, uint32_t bytes, uint64_t now_ns) {
  if (!k->received) k->first_ns = now_ns;
  k->last_ns = now_ns;
  k->received++, k->bytes += bytes;
}

/* Account one sound frame by its place in the flow; `newest` is where its order is kept: the place behind the newest frame that it
 * must not arrive after. */
static void account(struct flow_sink *k, uint64_t n, uint64_t *newest, uint32_t bytes, uint64_t now_ns) {
  uint64_t before = *newest;
  if (likely(n == k->next)) {
    seen_set(k, n);
    k->next++;
  } else if (n > k->next) {
    if (n - k->next >= SEEN_WINDOW) memset(k->seen, 0, sizeof k->seen);
    else for (uint64_t m = k->next; m < n; m++) seen_clear(k, m);
    seen_set(k, n);
    k->next = n + 1;
  } else {
    if (k->next - n <= SEEN_WINDOW && seen_test(k, n)) { k->duplicated++; return; }
    if (k->next - n <= SEEN_WINDOW) seen_set(k, n);
    k->reordered += n < before;
  }
  if (n >= before) *newest = n + 1;
  arrived(k, bytes, now_ns);
}

static void check_generated(struct flow_sink *k, const uint8_t *frame, uint32_t length, const flow_tag_t *tag, uint64_t now_ns) {
  if (likely(k->checked)) {
    uint64_t sum = sum_frame(frame, length) - word_part(AT(digest), tag->digest);
    if (unlikely(fold(sum) != tag->digest)) { k->corrupted++; return; }
  }
  account(k, tag->sequence, &k->newest_of[0], length, now_ns);
}

static inline bool is_frame(const struct flow_sink *k, uint64_t n, uint32_t digest) { return k->digests[n % k->digests_n] == digest; }
static inline bool missing(const struct flow_sink *k, uint64_t n) {
  return n >= k->next || (k->next - n <= SEEN_WINDOW && !seen_test(k, n));
}

/* The nearest frame like this one from `from` down to `begin`, missing or not; `begin` - 1 where there is none. */
static uint64_t behind(const struct flow_sink *k, uint32_t digest, uint64_t from, uint64_t begin, bool wanted) {
  while (from-- > begin)
    if (is_frame(k, from, digest) && missing(k, from) == wanted) return from;
  return begin - 1;
}

/* Find the frame of the capture that this is. Frames may be alike (in a loop each comes again). First choice is the first missing one
 * that keeps the order of its flow, from `newest` on. One ahead of everything that came must compete: with a missing one behind
 * `newest` that is nearer (this one is late), and with one that came already and is doubled, if that lies DOUBLED_FAVOUR times nearer to
 * the front: loss is commoner, but a loop skipped in vain would make every frame of it late. */
static bool find_replayed(const struct flow_sink *k, uint32_t digest, uint64_t newest, uint64_t *n) {
  uint64_t end = k->next + SEEN_WINDOW < k->total ? k->next + SEEN_WINDOW : k->total;
  uint64_t begin = k->next > SEEN_WINDOW ? k->next - SEEN_WINDOW : 0;
  if (likely(k->received == k->next && k->next < end && is_frame(k, k->next, digest))) return *n = k->next, true;
  if (newest < begin) newest = begin;
  uint64_t ahead = newest;
  while (ahead < end && !(is_frame(k, ahead, digest) && missing(k, ahead))) ahead++;
  if (ahead < end && ahead <= k->next) return *n = ahead, true;
  uint64_t late = behind(k, digest, newest, begin, true), doubled = behind(k, digest, k->next, begin, false);
  bool is_late = late != begin - 1, is_doubled = doubled != begin - 1;
  if (is_late && (ahead == end || newest - late <= ahead - newest)) return *n = late, true;
  if (is_doubled && (ahead == end || DOUBLED_FAVOUR * (k->next - doubled) < ahead - k->next + 1)) return *n = doubled, true;
  return *n = ahead, ahead < end;
}

static void check_replayed(struct flow_sink *k, const uint8_t *frame, uint32_t length, uint32_t hash, uint64_t now_ns) {
  uint64_t n, *newest = &k->newest_of[hash % REPLAY_LANES];
  if (find_replayed(k, flow_digest(frame, length), *newest, &n)) account(k, n, newest, length, now_ns);
  else k->corrupted++;
}

static struct flow_sink *replay_of(const struct sinks *s, const uint8_t *frame) {
  for (uint32_t i = 0; i < s->replays_n; i++)
    if (!memcmp(frame + offsetof(ethernet_t, source), s->replay[i]->source_mac, 6)) return s->replay[i];
  return NULL;
}

static void inspect_one(struct sinks *sinks, const struct burst *b, const struct frame *f, const uint8_t *frame, uint32_t length,
                        uint64_t now_ns, struct inspected *seen) {
  if (likely(length >= FLOW_FRAME_BYTES_MIN)) {
    flow_tag_t tag;
    memcpy(&tag, frame + TAG, sizeof tag);
    struct flow_sink *k = tag.flow < FLOWS_MAX ? sinks->flow[tag.flow] : NULL;
    if (likely(k && tag.magic == k->magic)) {
      uint64_t before = k->received;
      check_generated(k, frame, length, &tag, now_ns);
      if (tag.magic == FLOW_MAGIC_REPLY) seen->replies++;
      else if (tag.magic == FLOW_MAGIC_REQUEST) seen->requests += k->received != before;
      else seen->data++;
      return;
    }
  }
  struct flow_sink *replay = length >= sizeof(ethernet_t) ? replay_of(sinks, frame) : NULL;
  if (replay) seen->data++, check_replayed(replay, frame, length, flow_hash(b, f), now_ns);
  else seen->foreign++, sinks->foreign++;
}

static struct inspected inspect_burst(struct sinks *sinks, const struct burst *b, uint64_t now_ns) {
  static __thread uint8_t whole[VIRTIO_NET_FRAME_BYTES_MAX + 4];
  struct inspected seen = {0};
  trace_burst(TRACE_FRAME_CHECKED, b);
  for (uint32_t i = 0; i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    const uint8_t *frame = b->segments[f->first_segment].host;
    uint32_t length = f->len;
    if (unlikely(f->segments != 1)) {
      length = frame_read(b, f, 0, whole, sizeof whole);
      frame = whole;
    }
    inspect_one(sinks, b, f, frame, length, now_ns, &seen);
  }
  return seen;
}

/* Acquire and release: what one thread accounted is seen by the next. The frames of a capture may come in any queue. */
struct inspected flow_inspect(struct sinks *sinks, const struct burst *b, uint64_t now_ns) {
  if (likely(!sinks->gate)) return inspect_burst(sinks, b, now_ns);
  while (__atomic_exchange_n(sinks->gate, 1, __ATOMIC_ACQUIRE)) sched_yield();
  struct inspected seen = inspect_burst(sinks, b, now_ns);
  store_release(sinks->gate, 0u);
  return seen;
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t n) {
  for (size_t i = 0; i < n; i++) { uint8_t t = a[i]; a[i] = b[i], b[i] = t; }
}

/* Write the answer to every request of a burst but the first `skip` into the frames of another; return how many were written. */
uint32_t flow_echo(const struct burst *requests, struct burst *replies, uint32_t skip) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < requests->frames_n && n < replies->frames_n; i++) {
    const struct frame *f = &requests->frames[i];
    struct segment *to = &replies->segments[replies->frames[n].first_segment];
    if (f->len < FLOW_FRAME_BYTES_MIN || f->len > to->len) continue;
    frame_read(requests, f, 0, to->host, f->len);
    flow_tag_t tag;
    memcpy(&tag, to->host + TAG, sizeof tag);
    if (tag.magic != FLOW_MAGIC_REQUEST) continue;
    if (skip) {
      skip--;
      continue;
    }
    ethernet_t *e = (ethernet_t *)to->host;
    swap_bytes(e->destination, e->source, sizeof e->source);
    uint8_t *ip = to->host + sizeof *e, *udp = ip + sizeof(ipv4_t);
    swap_bytes(ip + offsetof(ipv4_t, source), ip + offsetof(ipv4_t, destination), 4);
    swap_bytes(udp + offsetof(udp_t, source_port), udp + offsetof(udp_t, destination_port), 2);
    tag.magic = FLOW_MAGIC_REPLY, tag.digest = 0;
    memcpy(to->host + TAG, &tag, sizeof tag);
    tag.digest = flow_digest(to->host, f->len);
    memcpy(to->host + TAG, &tag, sizeof tag);
    replies->frames[n++].len = f->len;
  }
  return n;
}
