# SPDX-License-Identifier: Apache-2.0
"""Random scripts for scripted_program, and the smallest part of one that still shows the same.

A script is a list of nodes (word, block), block being a list of nodes or None.
"""
import random

NVTX = ["nvtx", "nvtx", "nvtx:mark", "nvtx:range", "nvtx:string", "nvtx:domain", "nvtx:schema",
        "nvtx:hot"]
QUIET = ["say:x", "errno", "errno:string", "signals", "sleep:2", "buffered:y", "complain"]
SIGNALS = ["timer", "timer:fork", "handler", "handler:stack", "block_signals",
           "catch_file_size"]
STATE = ["descriptors", "close_all:3", "occupy:3", "occupy:60", "occupy:200", "fill",
         "limit_file:0", "limit_file:8192", "limit_descriptors:10", "limit_descriptors:100",
         "limit_memory:0", "limit_memory:1000", "limit_memory:30000", "limit_locked:0",
         "limit_processes:0", "remove_folder", "chroot", "drop_root", "clear_environment",
         "user_namespace", "mount_namespace", "process_namespace", "no_proc", "no_clock_counter", "exec_missing", "system",
         "children", "cancel", "at_end",
         "thread_end"]
CHILDREN = ["fork", "_Fork", "clone", "spawn", "forks:2"]
THREADS = ["thread", "small_thread", "threads:100"]
WHOLE_ENDS = ["exit:0", "exit:3", "_exit:4", "quick_exit:5", "abort", "kill:9", "kill:15",
              "kill:11", "fault"]
THREAD_ENDS = ["pthread_exit", "system_exit:0"]  # the process lives on while it has other threads
ENDS = WHOLE_ENDS + THREAD_ENDS + ["timer:exit"]
SANDBOXES = ["sandbox:kill", "sandbox:refuse", "sandbox:kill_all", "sandbox:refuse_all"]


def leaf(word):
    return (word, None)


def leaves(*several):
    return [leaf(word) for word in several]


def anything(rng, depth):
    """One node of a block at this depth."""
    kind = rng.random()
    if kind < 0.35:
        return leaf(rng.choice(NVTX))
    if kind < 0.45:
        return leaf(rng.choice(QUIET))
    if kind < 0.52:
        return leaf(rng.choice(SIGNALS))
    if kind < 0.72 or depth >= 2:
        return leaf(rng.choice(STATE))
    if kind < 0.76:
        return ("vfork", leaves(rng.choice(["nvtx", "say:v"]), rng.choice(["_exit:0", "_exit:6"])))
    if kind < 0.88:
        word = rng.choice(CHILDREN)
        if word.startswith("forks"):
            return (word, leaves(rng.choice(NVTX[:6]), rng.choice(WHOLE_ENDS)))
        return (word, block(rng, depth + 1, 2) + child_end(rng))
    word = rng.choice(THREADS)
    if word == "small_thread":  # a stack that the program's own calls need for themselves
        return (word, leaves(rng.choice(NVTX), "say:small"))
    if word.startswith("threads"):
        return (word, [leaf(rng.choice(NVTX[:4]))])
    return (word, block(rng, depth + 1, 2))


def block(rng, depth, longest):
    return [anything(rng, depth) for _ in range(rng.randint(1, longest))]


def child_end(rng):
    return [] if rng.random() < 0.3 else [leaf(rng.choice(ENDS))]


def main_end(rng):
    kind = rng.random()
    if kind < 0.10:
        return [("detached", leaves("nvtx", "say:late")), leaf(rng.choice(THREAD_ENDS))]
    if kind < 0.18:
        return [("detached:busy", leaves(rng.choice(NVTX))),
                *leaves("sleep:2", rng.choice(WHOLE_ENDS))]
    if kind < 0.24:
        return [("orphan", leaves("nvtx", "say:orphan"))] + child_end(rng)
    if kind < 0.30:
        return [("daemon", leaves("nvtx", "say:daemon"))]
    if kind < 0.36:
        return [(rng.choice(["exec", "exec:clean"]), block(rng, 1, 3) + child_end(rng))]
    if kind < 0.40:
        return leaves("nvtx", "strict", "nvtx:hot", "say:strict", "system_exit:0")
    if kind < 0.44:
        word = rng.choice(["tight_sandbox", "tight_sandbox:all"])
        return leaves("nvtx", word, "nvtx:hot", "say:tight", "exit:3")
    if kind < 0.50:
        return leaves(rng.choice(SANDBOXES), "nvtx:hot", "errno", "say:box", rng.choice(WHOLE_ENDS))
    if kind < 0.54:
        return [("thread", leaves("nvtx", rng.choice(WHOLE_ENDS)))]
    return child_end(rng)


def generate(seed):
    rng = random.Random(seed)
    return block(rng, 0, 6) + main_end(rng)


def words(script):
    out = []
    for word, inner in script:
        out.append(word)
        if inner is not None:
            out += ["[", *words(inner), "]"]
    return out


def smaller(script):
    """Every script with one node less, or with a block in the place of its node."""
    for i, (word, inner) in enumerate(script):
        yield script[:i] + script[i + 1:]
        if inner is not None:
            yield script[:i] + inner + script[i + 1:]
            for less in smaller(inner):
                yield script[:i] + [(word, less)] + script[i + 1:]


def minimise(script, still_fails):
    while True:
        for candidate in smaller(script):
            if candidate and still_fails(candidate):
                script = candidate
                break
        else:
            return script
