/* See dma_serve.h. */
#include "dma_serve.h"
#include "trace.h"

#include <string.h>

#define ORDERED_COPY_MAX 1024
#define PUBLISH_EVERY 64 /* the requester goes on with the first while the last are dealt with */

/* A write's bytes reach memory in ascending order, aligned words whole: a driver that polls the last word of a descriptor finds the
 * words before it (PCI Express 2.4.3 asks as much of a completer's memory only within a request; drivers rely on it). */
static inline void copy_out(uint8_t *restrict to, const uint8_t *restrict from, uint32_t length) {
  if (((uintptr_t)to | length) & 7 || length > ORDERED_COPY_MAX) {
    memcpy(to, from, length);
    return;
  }
  for (uint32_t at = 0; at < length; at += 8) {
    uint64_t word;
    memcpy(&word, from + at, 8);
    store_release((uint64_t *)(to + at), word);
  }
}

static bool move(dma_server_t *server, const dma_request_t *request, const dma_piece_t *pieces, uint32_t count, const host_region_t **hint) {
  bool write = request->kind != DMA_REQUEST_KIND_READ;
  uint8_t *at[DMA_REQUEST_PIECES_MAX], *local = server->buffer + request->buffer;
  for (uint32_t i = 0; i < count; i++) {
    const host_region_t *region = host_map_find(server->memory, pieces[i].hpa, pieces[i].length, *hint);
    if (!region || (write && !region->writable)) return false;
    *hint = region;
    at[i] = region->host + (pieces[i].hpa - region->hpa);
  }
  for (uint32_t i = 0; i < count; i++) {
    trace_event(TRACE_DMA_MOVED, pieces[i].length, request->kind, pieces[i].hpa, (uintptr_t)at[i], (uintptr_t)local);
    if (write) copy_out(at[i], local, pieces[i].length);
    else memcpy(local, at[i], pieces[i].length);
    local += pieces[i].length;
  }
  if (write) server->writes++, server->bytes_written += request->length;
  else server->reads++, server->bytes_read += request->length;
  return true;
}

static inline bool ordinary(const dma_server_t *server, const dma_request_t *request) {
  return request->kind <= DMA_REQUEST_KIND_WRITE && !(request->flags & DMA_REQUEST_FLAG_TRANSLATED) && request->stream == server->stream &&
         request->length <= DMA_REQUEST_LENGTH_MAX && dma_in_buffer(server, request->buffer, request->length);
}

static inline bool is_message(const dma_server_t *server, const dma_request_t *request) {
  return server->translater && request->kind == DMA_REQUEST_KIND_MSI && !(request->flags & DMA_REQUEST_FLAG_TRANSLATED) &&
         request->stream == server->stream && request->length == DMA_REQUEST_MSI_BYTES;
}

/* Post the event of an MSI whose address, the one piece of a write, is translated: false where it goes elsewhere or is not cached. */
static bool post(dma_server_t *server, const dma_request_t *request, const dma_piece_t *piece) {
  if (piece->hpa != server->translater || piece->length != DMA_REQUEST_MSI_BYTES) return false;
  if (!its_cached(server->its, server->stream, request->buffer)) return false;
  server->outcome = its_post(server->its, server->stream, request->buffer, &server->told);
  server->messages++;
  return true;
}

/* One copy of a slot that the requester may change while it is read: behind the barrier the compiler can only use the copy. */
static inline void take(const dma_request_t *slot, dma_request_t *copy) {
  memcpy(copy, slot, sizeof *copy);
  __asm__ volatile("" : : "r"(copy) : "memory");
}

int dma_serve(dma_server_t *server, uint32_t limit, bool fast, uint32_t *done) {
  uint32_t posted = load_acquire(&server->head->posted), pending = posted - server->served, taken_n = 0;
  if (server->broken || pending > server->mask + 1) {
    server->broken = true;
    *done = 0;
    return DMA_SERVE_BROKEN;
  }
  int reason = pending > limit ? DMA_SERVE_LIMIT : DMA_SERVE_IDLE;
  if (pending > limit) pending = limit;
  uint32_t context = IOTLB_NONE, substream = 0;
  const host_region_t *hint = NULL;
  dma_piece_t pieces[DMA_REQUEST_PIECES_MAX];
  for (; taken_n < pending; taken_n++) {
    dma_request_t request;
    take(&server->slots[server->served & server->mask], &request);
    trace_event(TRACE_DMA_TAKEN, request.length, server->stream, request.kind, request.iova, 0);
    bool moved = false;
    bool message = is_message(server, &request);
    if (fast && (message || ordinary(server, &request))) {
      if (context == IOTLB_NONE || request.substream != substream)
        context = iotlb_find_context(server->tlb, server->stream, substream = request.substream);
      int32_t count = context == IOTLB_NONE ? -1 : iotlb_resolve(server->tlb, context, &request, pieces);
      moved = count >= 0 && (message ? post(server, &request, pieces) : move(server, &request, pieces, (uint32_t)count, &hint));
    }
    if (!moved) {
      server->current = request;
      reason = DMA_SERVE_ATTENTION;
      break;
    }
    server->served++;
    if (message && server->outcome != VPE_DELIVERED) {
      taken_n++;
      reason = DMA_SERVE_TELL;
      break;
    }
    if (taken_n % PUBLISH_EVERY == PUBLISH_EVERY - 1) store_release(&server->head->completed, server->served);
  }
  /* release: whoever sees the count sees what the requests did */
  store_release(&server->head->completed, server->served);
  *done = taken_n;
  return reason;
}

bool dma_move(dma_server_t *server, const dma_piece_t *pieces, uint32_t count) {
  const host_region_t *hint = NULL;
  return move(server, &server->current, pieces, count, &hint);
}

void dma_finish(dma_server_t *server, uint32_t status) {
  if (status != DMA_REQUEST_STATUS_DONE) store_relaxed(&server->slots[server->served & server->mask].status, status);
  server->served++;
  store_release(&server->head->completed, server->served);
}
