"""What is native: ordered loads and stores, bursts of descriptors, copies, page walks, frame fill and check.

One Cython extension over C. It knows bytes and offsets and has no policy. Where it is missing, the message says how to build it.
"""

try:
    from testbed.native._core import (
        DROP,
        FLOOD,
        FRAMES_MAX,
        Bell,
        Burst,
        FlowSink,
        FlowSource,
        FrameStore,
        HostMap,
        Inspector,
        MacTable,
        MaskSet,
        PackedDevice,
        PackedDriver,
        Pinned,
        Regions,
        ReplaySource,
        SharedWords,
        SplitDevice,
        SplitDriver,
        Stage2,
        Watch,
        Watched,
        WordChanges,
        echo,
        frame_digest,
        walk_nested,
    )
except ImportError as error:  # pragma: no cover - only on an unbuilt tree
    raise ImportError(
        f"the native extension of virtbed is not built ({error}); build it with: python setup.py build_ext --inplace"
    ) from error

__all__ = [
    "DROP",
    "FLOOD",
    "FRAMES_MAX",
    "Bell",
    "Burst",
    "FlowSink",
    "FlowSource",
    "FrameStore",
    "HostMap",
    "Inspector",
    "MacTable",
    "MaskSet",
    "PackedDevice",
    "PackedDriver",
    "Pinned",
    "Regions",
    "ReplaySource",
    "SharedWords",
    "SplitDevice",
    "SplitDriver",
    "Stage2",
    "Watch",
    "Watched",
    "WordChanges",
    "echo",
    "frame_digest",
    "walk_nested",
]
