/* Ordered access to memory that another process reads or writes at the same time.
 *
 * Every shared word goes through these, so a value is read once (no double fetch) and never torn. acquire: what is read
 * after it is at least as new as the word. release: what was written before it is visible to whoever acquires the word.
 * full_fence: a store before it is visible before a load after it reads (store-load, the one order that x86 does not give).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
static inline void full_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#define CACHE_LINE 64
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Ask for a line that will be written: without the other processor's copy. A compiler for any x86-64 makes a prefetch for reading of
 * __builtin_prefetch(p, 1), and the copy is then taken away at the store. PREFETCHW does nothing where a processor lacks it. */
static inline void prefetch_owned(const void *p) {
#ifdef __x86_64__
  __asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
  __builtin_prefetch(p, 1);
#endif
}
