# SPDX-License-Identifier: Apache-2.0
"""Collectives of torch.distributed on CPU tensors, as the program calls them and as torch.compile and
DTensor do (functional collectives). Part of recorder.py, and under its rules.
"""
import ctypes
import functools
import inspect
import threading


class Facts(ctypes.Structure):  # hooks/torch/calls.cc
    _fields_ = [
        ("function", ctypes.c_uint32),
        ("peer", ctypes.c_int32),
        ("bytes", ctypes.c_int64),
        ("communicator", ctypes.c_uint64),
        ("sequence", ctypes.c_int64),
        ("ranks", ctypes.c_uint32),
        ("type", ctypes.c_char * 20),
    ]


# Of each function: the argument that is a message, the one that is a peer. What one rank contributes
# counts; of a scatter what it gets.
_FUNCTIONS = {
    "all_reduce": ("tensor", None),
    "reduce": ("tensor", "dst"),
    "broadcast": ("tensor", "src"),
    "all_gather": ("tensor", None),
    "all_gather_into_tensor": ("input_tensor", None),
    "_all_gather_base": ("input_tensor", None),
    "gather": ("tensor", "dst"),
    "scatter": ("tensor", "src"),
    "reduce_scatter": ("input_list", None),
    "reduce_scatter_tensor": ("input", None),
    "_reduce_scatter_base": ("input", None),
    "all_to_all": ("input_tensor_list", None),
    "all_to_all_single": ("input", None),
    "barrier": (None, None),
    "send": ("tensor", "dst"),
    "recv": ("tensor", "src"),
    "isend": ("tensor", "dst"),
    "irecv": ("tensor", "src"),
}
_CALLED = {"_all_gather_base": "all_gather_into_tensor", "_reduce_scatter_base": "reduce_scatter_tensor"}


# What DTensor and compiled graphs call instead: operators that return a tensor, on which wait_tensor() waits.
# The message comes first, the name of the group is the last text. Operator -> the function above.
_FUNCTIONAL = {
    "all_reduce": "all_reduce",
    "all_reduce_": "all_reduce",
    "all_reduce_coalesced": "all_reduce",
    "all_reduce_coalesced_": "all_reduce",
    "all_gather_into_tensor": "all_gather_into_tensor",
    "all_gather_into_tensor_out": "all_gather_into_tensor",
    "all_gather_into_tensor_coalesced": "all_gather_into_tensor",
    "reduce_scatter_tensor": "reduce_scatter_tensor",
    "reduce_scatter_tensor_out": "reduce_scatter_tensor",
    "reduce_scatter_tensor_coalesced": "reduce_scatter_tensor",
    "all_to_all_single": "all_to_all_single",
    "broadcast": "broadcast",
    "broadcast_": "broadcast",
}
_MOST_PENDING = 1 << 16


def _tensor_bytes(tensor):
    return tensor.numel() * tensor.element_size()


class _Collectives:
    def __init__(self, torch, library):
        self.torch = torch
        self.c10d = torch.distributed.distributed_c10d
        self.library = library
        self.sequences = {}  # communicator -> collectives so far
        self.pending = {}  # id of a Work, or ("tensor", address) -> (facts, mark)
        self.thread = threading.local()

    def group_ranks(self, group):
        if hasattr(self.c10d, "get_process_group_ranks"):
            group = group or self.c10d._get_default_group()
            return tuple(self.c10d.get_process_group_ranks(group))
        if group is None or group is self.c10d.GroupMember.WORLD:
            return tuple(range(self.c10d.get_world_size()))
        return tuple(sorted(self.c10d._pg_group_ranks[group]))

    def facts(self, name, function, bound):
        """None: nothing for this hook. CUDA tensors are seen where their kernels are, MPI's calls by
        the hooks of MPI."""
        message, peer = _FUNCTIONS[name]
        tensors = bound.get(message)
        if isinstance(tensors, self.torch.Tensor):
            tensors = [tensors]
        counted = name not in ("send", "recv", "isend", "irecv")
        return self.describe(function, tensors or [], bound.get("group"), bound.get(peer), counted)

    def describe(self, function, tensors, group, peer, counted=True):
        if any(tensor.device.type != "cpu" for tensor in tensors):
            return None
        if "gloo" not in self.c10d.get_backend(group):
            return None
        ranks = self.group_ranks(group)
        facts = Facts(function=function, peer=-1, sequence=-1, ranks=len(ranks))
        facts.bytes = sum(_tensor_bytes(tensor) for tensor in tensors)
        if tensors:
            facts.type = str(tensors[0].dtype).replace("torch.", "").encode()[:20]
        number = 0xCBF29CE484222325
        for rank in ranks:  # the same on all of them
            number = ((number ^ (rank + 1)) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        facts.communicator = number & 0x7FFFFFFFFFFFFFFF
        if isinstance(peer, int):
            facts.peer = peer
        if counted:
            facts.sequence = self.sequences.get(number, 0)
            self.sequences[number] = facts.sequence + 1
        return facts

    def begin(self, name, facts_of):
        try:
            facts = facts_of()
            return facts, self.library.began(facts) if facts is not None else 0
        except Exception as error:  # of another version, or wrong: the call itself will say so
            self.library.mark("preserve: {} not recorded: {!r}".format(name, error).encode())
            return None, 0

    def around(self, name, call, is_traced, facts_of, key_of):
        """`facts_of` the arguments; `key_of` the result is what is waited for later, None: nothing."""

        def recorded(*args, **kwargs):
            # Inside another one: a part of it.
            if is_traced() or getattr(self.thread, "inside", False):
                return call(*args, **kwargs)
            facts, mark = self.begin(name, lambda: facts_of(args, kwargs))
            if facts is None:
                return call(*args, **kwargs)
            self.thread.inside = True
            key, failed = None, True
            try:
                result = call(*args, **kwargs)
                failed = False
                key = key_of(result)
                return result
            finally:
                self.thread.inside = False
                if key is not None:
                    self.issue(key, facts, mark)
                else:
                    self.library.ended(facts, mark, 1 if failed else 0)

        return recorded

    def wrap(self, name, call, is_traced):
        called = _CALLED.get(name, name)
        function = self.library.function(("c10d." + called).encode())
        signature = inspect.signature(call)

        def facts_of(args, kwargs):
            return self.facts(name, function, signature.bind(*args, **kwargs).arguments)

        def key_of(work):
            return id(work) if hasattr(work, "wait") else None

        return functools.wraps(call)(self.around(name, call, is_traced, facts_of, key_of))

    def issue(self, key, facts, mark):
        self.library.issued(facts, mark)
        forgotten = self.pending.pop(key, None)
        if forgotten is None and len(self.pending) >= _MOST_PENDING:
            forgotten = self.pending.pop(next(iter(self.pending)))
        if forgotten is not None:  # nobody waited for it
            self.library.lost(*forgotten)
        self.pending[key] = (facts, mark)

    def is_plain(self, tensor):
        """What a compiler traces with, and what wraps other tensors, are of classes of their own."""
        return type(tensor) in (self.torch.Tensor, self.torch.nn.Parameter)

    def functional_facts(self, name, function, args, kwargs):
        message = args[0] if args else kwargs.get("input", kwargs.get("inputs"))
        tensors = message if isinstance(message, (list, tuple)) else [message]
        if not all(self.is_plain(tensor) for tensor in tensors):
            return None
        texts = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
        group = self.torch._C._distributed_c10d._resolve_process_group(kwargs.get("group_name", texts[-1]))
        peer = args[1] if name.startswith("broadcast") and len(args) > 1 else kwargs.get("src")
        return self.describe(function, tensors, group, peer)

    def wrap_functional(self, name, call, is_traced):
        function = self.library.function(("c10d." + _FUNCTIONAL[name]).encode())

        def facts_of(args, kwargs):
            return self.functional_facts(name, function, args, kwargs)

        def key_of(result):
            address = self.address(result[-1] if isinstance(result, (list, tuple)) else result)
            return ("tensor", address) if address != 0 else None

        return self.around(name, call, is_traced, facts_of, key_of)

    @staticmethod
    def address(tensor):
        try:
            return tensor.data_ptr()
        except (AttributeError, RuntimeError):  # without memory of its own
            return 0

    def wrap_functional_wait(self, wait, is_traced):
        recorded = self.wrap_wait(wait, lambda tensor: ("tensor", self.address(tensor)))

        def chosen(*args, **kwargs):
            # Tensors of compilers and other people's classes have no address to ask for.
            plain = len(args) == 1 and type(args[0]) is self.torch.Tensor
            call = recorded if plain and not kwargs and not is_traced() else wait
            return call(*args, **kwargs)

        return chosen

    def wrap_wait(self, wait, key=id):
        function = self.library.function(b"c10d.wait")

        def recorded(work, *args, **kwargs):
            entry = self.pending.pop(key(work), None)
            if entry is None:
                return wait(work, *args, **kwargs)
            waiting = Facts(function=function, peer=-1, bytes=-1, sequence=-1)
            mark = self.library.began(waiting)
            failed = True
            try:
                result = wait(work, *args, **kwargs)
                failed = False
                return result
            finally:
                self.library.ended(waiting, mark, 1 if failed else 0)
                (self.library.lost if failed else self.library.completed)(*entry)

        return functools.wraps(wait)(recorded) if hasattr(wait, "__name__") else recorded

    def wrap_init(self, init):
        @functools.wraps(init)
        def recorded(*args, **kwargs):
            result = init(*args, **kwargs)
            library = "PyTorch {}, {}".format(self.torch.__version__, self.c10d.get_backend())
            self.library.rank(self.c10d.get_rank(), self.c10d.get_world_size(), library.encode())
            return result

        return recorded


def _record_functional(torch, library, collectives, is_traced):
    """An operator and its overload are objects of Python with what they call as an attribute."""
    for space in ("_c10d_functional", "_c10d_functional_autograd"):
        operators = getattr(getattr(torch, "ops", None), space, None)
        for name in (*_FUNCTIONAL, "wait_tensor"):
            packet = getattr(operators, name, None)
            for operator in (packet, getattr(packet, "default", None)):
                call = getattr(operator, "_op", None)
                if call is None:
                    continue
                if name == "wait_tensor":
                    operator._op = collectives.wrap_functional_wait(call, is_traced)
                else:
                    operator._op = collectives.wrap_functional(name, call, is_traced)


def record(torch, library, is_traced):
    if not torch.distributed.is_available():
        return
    collectives = _Collectives(torch, library)
    for name in (*_FUNCTIONS, "init_process_group"):
        call = getattr(collectives.c10d, name, None)
        if call is None:
            continue
        if name == "init_process_group":
            recorded = collectives.wrap_init(call)
        else:
            recorded = collectives.wrap(name, call, is_traced)
        for module in (collectives.c10d, torch.distributed):
            if getattr(module, name, None) is call:
                setattr(module, name, recorded)
    work = torch._C._distributed_c10d.Work
    work.wait = collectives.wrap_wait(work.wait)
    try:
        _record_functional(torch, library, collectives, is_traced)
    except Exception as error:  # another version's operators: the program runs all the same
        library.mark("preserve: functional collectives not recorded: {!r}".format(error).encode())
