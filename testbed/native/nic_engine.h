/* The data side of an 82576: transmit and receive queues, the embedded switch between them, and the wire.
 *
 * Everything that moves is in device memory: descriptors are fetched there, frames are read there, offloads are done there, and from there
 * they go to the wire or are written into the buffers of other functions. All access to host memory is by DMA requests of the function that
 * owns a queue, posted in order; what they ask for comes when it comes. One turn does everything that can be done; nothing here waits. */
#pragma once
#include "nic_ring.h"
#include "nic_rss.h"
#include "nic_switch.h"
#include "nic_wire.h"
#include "size_classes.h"

#define NIC_FUNCTIONS 9
#define NIC_JOBS 4          /* bursts under way for each source */
#define NIC_JOB_FRAMES 256
#define NIC_JOB_BYTES 262144
#define NIC_HEADROOM 16     /* in front of a frame that may get a tag */
#define NIC_RUN_MAX 64      /* descriptors in one write: the longest that is ordered word by word */

/* A packet as its descriptors describe it, in one piece in device memory. */
struct nic_packet {
  uint32_t at, len;
  uint32_t cmd, olinfo;                  /* of its first data descriptor */
  uint32_t macip_vlan, tucmd, mss_l4len; /* of the context that it refers to */
};

/* A frame as it goes out. `to`: pools and NIC_WIRE that have not had it; `all`: where it was meant to go. */
struct nic_frame { uint32_t at; uint16_t len, to, all; };

enum nic_phase { JOB_FREE, JOB_READING, JOB_ARRIVED, JOB_MOVING, JOB_LEAVING };

struct nic_job {
  enum nic_phase phase;
  bool dead;                /* its queue was reset, or a read was refused: what comes for it is not looked at */
  uint32_t base, used;      /* of device memory */
  uint32_t back;            /* device memory: descriptors to be written back */
  uint32_t first, behind;   /* requests that read its packets */
  uint32_t packets_n, frames_n, next;
  uint32_t planned, reserved; /* frames and bytes that its packets will become */
  uint32_t done;            /* ring index behind its last descriptor */
  uint32_t rs_n;
  uint32_t leaving;         /* functions that frames of it are being written for, and behind which request each */
  uint32_t written[NIC_FUNCTIONS];
  uint32_t rs[NIC_JOB_FRAMES]; /* descriptors with RS, by ring index */
  struct nic_packet packets[NIC_JOB_FRAMES + 1]; /* one that is looked at and finds no room */
  struct nic_frame frames[NIC_JOB_FRAMES];
};

/* Bursts from one source, oldest first. */
struct nic_lane {
  uint32_t from;            /* pool, or NIC_FROM_WIRE */
  uint32_t first, n;
  uint64_t blocked_ns;      /* since when its oldest frame waits; 0: it does not */
  uint64_t last_look_ns;    /* when the last part of the time that it may wait began; 0: it did not */
  struct nic_job jobs[NIC_JOBS];
};

struct nic_transmit {
  struct nic_ring ring;
  struct nic_lane lane;
  uint32_t pool;
  uint32_t at;              /* ring index of the next descriptor to use */
  uint32_t starved;         /* what there was up to here had no end of a packet */
  struct nic_desc contexts[IGB_RING_CONTEXTS];
  uint64_t head_address;    /* TDWBA, 0: DD is written back */
  uint32_t head_back;       /* device memory: heads on their way to memory, one a job */
  uint64_t bits_per_second, free_ns; /* rate limit: when the next packet may go */
};

struct nic_receive {
  struct nic_ring ring;
  uint32_t pool, buffer_bytes;
  bool legacy, drop;        /* SRRCTL.DESCTYPE 0; DROP_EN or QDE */
  bool stalled;             /* it held a sender back too long: no more of that before its driver posted again and a quarter is free */
  uint32_t stalled_tail;    /* its tail then */
  uint32_t write_back;      /* device memory, NIC_CACHE descriptors */
  uint32_t first, filled;   /* number of the first descriptor not yet written back, and behind the last one that is filled */
  uint32_t first_index;     /* ring index of the first */
  uint32_t back;            /* number behind the last whose write is done */
  struct nic_flights writes;
  uint32_t dropped;         /* since last asked: RQDPC */
};

/* Frames from the wire that nobody here takes, and when the first since `n` was 0 and the last one came. */
struct nic_unclaimed { uint64_t n, bytes, first_ns, last_ns; };

struct nic_offloads { bool check_ip, check_l4, packet_checksum_off; /* RXCSUM.IPOFLD, TUOFLD, PCSD */ };

/* What the switch decided about a pair of addresses; forgotten when its state changes. */
#define NIC_MEMOS 64
struct nic_memo { uint64_t destination, source; uint32_t key, to; bool permitted; };

struct nic_engine {
  uint8_t *sram;
  struct nic_switch sw;
  struct nic_rss rss;
  struct nic_offloads offloads;
  struct nic_transmit tx[NIC_QUEUES];
  struct nic_receive rx[NIC_QUEUES];
  struct nic_lane ingress;
  struct nic_wire out, in;
  bool wired;
  dma_requester_t *dma[NIC_FUNCTIONS];
  uint64_t now_ns, stall_ns, due_ns; /* due: when something happens by itself, 0: nothing does */
  struct nic_unclaimed unclaimed;
  uint32_t tx_awaited, rx_awaited; /* queues whose events interrupt somebody now */
  uint32_t tx_events, rx_events, spoofing, dropping; /* queues, a bit each */
  uint32_t faults; /* transmit queues in the low half, receive queues in the high one */
  uint32_t spoofed[NIC_QUEUES];
  uint32_t tx_used, rx_used; /* queues that were ever started, a bit each */
  uint32_t turn;
  bool moved;
  struct nic_memo memos[NIC_MEMOS];
  igb_statistics_t *stats;
  igb_pool_statistics_t *pool_stats; /* NIC_POOLS of them */
  nic_pool_counters_t *count;        /* NIC_POOLS of them */
};

uint64_t nic_memory_bytes(void);
void nic_engine_init(struct nic_engine *e, uint8_t *sram);
void nic_transmit_reset(struct nic_transmit *q);
void nic_receive_reset(struct nic_receive *q);
bool nic_turn(struct nic_engine *e, uint64_t now_ns);
int nic_ready(void *engine);

/* nic_transmit.c */
void nic_transmit_arrivals(struct nic_engine *e, struct nic_transmit *q);
void nic_transmit_work(struct nic_engine *e, uint32_t number);
/* nic_offload.c: frames and further bytes that a packet becomes; 0: none can be made of it */
uint32_t nic_frames_of(const struct nic_packet *p, uint32_t *bytes);
void nic_make_frames(struct nic_engine *e, uint32_t queue, struct nic_job *job, const struct nic_packet *p);
/* nic_receive.c */
enum nic_put { NIC_PUT_DONE, NIC_PUT_WAIT };
enum nic_put nic_receive_put(struct nic_engine *e, uint32_t pool, struct nic_job *job, const struct nic_frame *f, uint32_t from);
void nic_receive_stall(struct nic_engine *e, uint32_t pool, const struct nic_frame *f);
void nic_receive_arrivals(struct nic_engine *e, struct nic_receive *q);
void nic_receive_work(struct nic_engine *e, struct nic_receive *q);
void nic_receive_flush(struct nic_engine *e, uint32_t number);
/* nic_lane.c */
struct nic_job *lane_open(struct nic_lane *lane);
void nic_send(struct nic_engine *e, struct nic_job *job, uint32_t at, uint32_t len, uint32_t queue);
void nic_lane_move(struct nic_engine *e, struct nic_lane *lane);
void nic_ingress(struct nic_engine *e);

static inline uint32_t align16(uint32_t n) { return (n + 15u) & ~15u; }
static inline void nic_due(struct nic_engine *e, uint64_t at_ns) {
  if (!e->due_ns || at_ns < e->due_ns) e->due_ns = at_ns;
}
