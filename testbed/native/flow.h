/* Frames of a workload: written by the sender, checked where they arrive.
 *
 * A generated frame is an Ethernet, IPv4, UDP frame with our tag (testbed/spec/flow.py). Its digest is a weighted sum of the frame's
 * 32-bit words, each with an odd weight of its own, modulo 2^64 and folded to 32 bits: a change of any one word, or of two that
 * are swapped, changes the sum. The sum is linear, so the sender adds the sequence number's part to a template's sum; the
 * receiver always sums the whole frame. */
#pragma once
#include "burst.h"
#include "layouts.h"

#define SIZES_MAX 64
#define SEEN_WINDOW 65536 /* sequence numbers behind the newest in which late and double frames are told apart */
#define FLOWS_MAX FLOW_IDS_MAX
#define REPLAYS_MAX 64
#define REPLAY_LANES 256
#define DOUBLED_FAVOUR 16

struct flow_source {
  uint32_t flow;
  uint16_t magic;
  bool checked;
  uint32_t sizes_n, next_size;
  uint32_t size[SIZES_MAX];
  uint8_t *templates; /* FLOW_FRAME_BYTES_MAX each */
  uint64_t base[SIZES_MAX];
  uint64_t sequence;
};

struct replay_source {
  const uint8_t *bytes;
  const uint32_t *offsets; /* frames_n + 1 */
  uint32_t frames_n;
  uint64_t sequence, total;
};

struct flow_sink {
  uint32_t flow;
  uint16_t magic;
  bool checked;
  uint8_t source_mac[6];
  uint64_t next, received, bytes, reordered, corrupted, duplicated;
  uint64_t first_ns, last_ns;
  uint64_t newest_of[REPLAY_LANES]; /* of a replay: the newest frame + 1 by flow hash; flows may overtake each other */
  const uint32_t *digests; /* of a replay: one a frame of the capture */
  uint32_t digests_n;
  uint64_t total;
  uint64_t seen[SEEN_WINDOW / 64];
};

struct sinks {
  struct flow_sink *flow[FLOWS_MAX];
  struct flow_sink *replay[REPLAYS_MAX];
  uint32_t replays_n;
  uint64_t foreign;
  uint32_t *gate; /* held for a burst where other threads account in the same sinks; NULL: they do not */
};

struct inspected { uint32_t data, requests, replies, foreign; };

uint32_t flow_digest(const uint8_t *frame, uint32_t length);
void flow_template(struct flow_source *s, uint32_t which, uint32_t size, const uint8_t *headers);
bool flow_fits(const struct burst *reserved, uint32_t frame_bytes);
void flow_fill(struct flow_source *s, struct burst *b);
void replay_fill(struct replay_source *s, struct burst *b);
struct inspected flow_inspect(struct sinks *sinks, const struct burst *b, uint64_t now_ns);
uint32_t flow_echo(const struct burst *requests, struct burst *replies, uint32_t skip);
