"""Interposers: what looks at the frames of one NIC on their way through the bridge, one file each."""
