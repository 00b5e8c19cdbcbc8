# distutils: language = c
"""The native extension: what is done once per frame, per descriptor or per access.

Bytes and offsets only; every decision is Python's. One part a file:
"""

include "buffer.pxi"
include "burst.pxi"
include "watch.pxi"
include "exits.pxi"
include "device_ring.pxi"
include "split.pxi"
include "packed.pxi"
include "mac_table.pxi"
include "flow.pxi"
include "sink.pxi"
include "bare_ring.pxi"
include "page_walk.pxi"
include "iotlb.pxi"
include "dma.pxi"
include "e1000.pxi"
include "interpose.pxi"
include "gic.pxi"
include "its.pxi"
include "bar_window.pxi"
include "tap.pxi"
include "vhost_user.pxi"
include "nic.pxi"
