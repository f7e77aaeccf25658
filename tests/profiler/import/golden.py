#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is in a foreign trace, counted without the importer: the second implementation that its tests
are compared with. Prints one JSON object. Usage: golden.py FILE"""
import collections
import gzip
import json
import sqlite3
import sys

GPU = {"kernel": "kernel", "Kernel": "kernel", "gpu_memcpy": "copy", "Memcpy": "copy",
       "gpu_memset": "copy", "Memset": "copy"}
LAUNCH = {"cuda_runtime", "cuda_driver", "Runtime"}


def union(intervals):
    total, covered = 0, None
    for start, end in sorted(intervals):
        if covered is None or start > covered:
            total, covered = total + end - start, end
        elif end > covered:
            total, covered = total + end - covered, end
    return total


def nanoseconds(text):
    """Exact: a decimal number of microseconds as text."""
    whole, _, fraction = text.partition(".")
    return int(whole) * 1000 + int((fraction + "000")[:3])


def summary(activities, launches):
    """activities: (kind, stream, start_ns, end_ns, correlation, name)"""
    streams = collections.defaultdict(list)
    for kind, stream, start, end, correlation, name in activities:
        streams[stream].append((start, end))
    shared = collections.Counter(a[4] for a in activities if a[4])
    return {
        "kernels": sum(a[0] == "kernel" for a in activities),
        "copies": sum(a[0] == "copy" for a in activities),
        "streams": len(streams),
        "summed_ns": sum(a[3] - a[2] for a in activities),
        "busy_ns": sum(union(s) for s in streams.values()),
        "first_ns": min(a[2] for a in activities) if activities else 0,
        "last_ns": max(a[3] for a in activities) if activities else 0,
        "unmatched": sum(a[4] not in launches for a in activities),
        "replayed": sum(shared[a[4]] > 1 for a in activities if a[4]),
        "nccl": sum("nccl" in a[5].lower() and a[0] == "kernel" for a in activities),
    }


def kineto(path):
    opener = gzip.open if open(path, "rb").read(2) == b"\x1f\x8b" else open
    with opener(path, "rt") as file:
        # Numbers stay text: a double does not hold a time stamp in ns.
        document = json.load(file, parse_float=str, parse_int=str)
    base = int(document.get("baseTimeNanoseconds", 0))
    activities, launches, metadata = [], set(), 0
    for event in document["traceEvents"]:
        args = event.get("args", {})
        if event.get("ph") != "X":
            continue
        if event.get("cat") in LAUNCH and "correlation" in args:
            launches.add(int(args["correlation"]))
        if event.get("cat") in GPU:
            start = base + nanoseconds(event["ts"])
            activities.append((GPU[event["cat"]], (args["device"], args["stream"]), start,
                               start + nanoseconds(event["dur"]), int(args["correlation"]), event["name"]))
            metadata += "Collective name" in args
    return {**summary(activities, launches), "metadata": metadata}


def nsys(path):
    db = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    activities = []
    for table, kind in (("KERNEL", "kernel"), ("MEMCPY", "copy"), ("MEMSET", "copy")):
        if "CUPTI_ACTIVITY_KIND_" + table not in tables:
            continue
        name = "(SELECT value FROM StringIds WHERE id = t.demangledName)" if kind == "kernel" else "''"
        for row in db.execute(
                f"SELECT globalPid, deviceId, contextId, streamId, start, end, correlationId, {name} "
                f"FROM CUPTI_ACTIVITY_KIND_{table} AS t"):
            activities.append((kind, row[:4], row[4], row[5], (row[0], row[6]), row[7]))
    launches = {(tid & ~0xFFFFFF, correlation) for tid, correlation in
                db.execute("SELECT globalTid, correlationId FROM CUPTI_ACTIVITY_KIND_RUNTIME")}
    return summary(activities, launches)


def main():
    with open(sys.argv[1], "rb") as file:
        is_sqlite = file.read(15) == b"SQLite format 3"
    print(json.dumps((nsys if is_sqlite else kineto)(sys.argv[1])))


main()
