# SPDX-License-Identifier: Apache-2.0
"""What a PyTorch program does, told to the collector: the path of each module as a range, weights,
buffers and KV caches as named memory, collectives on CPU tensors.

Runs inside the program: it must not raise, print, keep anything alive or change a result. It stays
out of what torch.compile and torch.jit trace; a CUDA graph sees each range once, as it is captured.
What goes wrong here ends up as a mark in the trace.
"""
import ctypes
import functools
import inspect
import os
import re
import sys
import threading
import weakref

# Attributes in which attention modules of serving engines keep their cache: a tensor, or several.
_CACHE = re.compile(r"^_?((past_)?(kv|k|v|key|value|keys|values)_?(cache|buffer)s?|cache_(k|v|kv))$")
_CACHE_WORDS = ("k_cache", "v_cache", "kv_cache", "key_cache", "value_cache")  # a name of one says it
_COMPILED = "_orig_mod"  # what torch.compile calls the module that it wraps
_MOST_PARTS = 64
_MOST_STRINGS = 1 << 16
_MOST_ROOTS = 64


class _Facts(ctypes.Structure):  # hooks/torch/calls.cc
    _fields_ = [
        ("function", ctypes.c_uint32),
        ("peer", ctypes.c_int32),
        ("bytes", ctypes.c_int64),
        ("communicator", ctypes.c_uint64),
        ("sequence", ctypes.c_int64),
        ("ranks", ctypes.c_uint32),
        ("type", ctypes.c_char * 20),
    ]


class _Library:
    """The collector's functions. PyDLL: they are shorter than handing the interpreter over."""

    def __init__(self, path):
        library = ctypes.PyDLL(path)
        facts = ctypes.POINTER(_Facts)
        for name, result, arguments in (
            ("wanted", ctypes.c_uint32, ()),
            ("name", ctypes.c_uint32, (ctypes.c_char_p,)),
            ("push", None, (ctypes.c_uint32,)),
            ("pop", None, ()),
            ("mark", None, (ctypes.c_char_p,)),
            ("region", None, (ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64)),
            ("rank", None, (ctypes.c_int32, ctypes.c_int32, ctypes.c_char_p)),
            ("function", ctypes.c_uint32, (ctypes.c_char_p,)),
            ("began", ctypes.c_uint64, (facts,)),
            ("ended", None, (facts, ctypes.c_uint64, ctypes.c_int32)),
            ("issued", None, (facts, ctypes.c_uint64)),
            ("completed", None, (facts, ctypes.c_uint64)),
            ("lost", None, (facts, ctypes.c_uint64)),
        ):
            function = getattr(library, "preserve_torch_" + name)
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)


def _tensor_bytes(tensor):
    return tensor.numel() * tensor.element_size()


class _Modules:
    """Ranges of modules and the memory that belongs to them."""

    def __init__(self, torch, library):
        self.torch = torch
        self.library = library
        self.known = {}  # id of a module -> (weak reference, number of its name, root or None)
        self.roots, self.has_model = 0, False
        self.numbers = {}  # name -> number
        self.thread = threading.local()

    def number(self, name):
        number = self.numbers.get(name)
        if number is None:
            if len(self.numbers) >= _MOST_STRINGS:
                return None
            number = self.numbers[name] = self.library.name(name.encode())
        return number

    def enter(self, module, args, kwargs):
        """Begins the range of a module; whether there is one to end."""
        depth = getattr(self.thread, "depth", 0)
        entry = self.known.get(id(module))
        if entry is None or entry[0]() is not module:
            # Inside another module's call it is one that came later: it has no path. Neither have
            # the copies that DataParallel makes in every step, and what is made as often.
            if depth != 0 or getattr(module, "_is_replica", False) or self.roots >= _MOST_ROOTS:
                return False
            if self.is_made_by_compiler(module):
                return False
            entry = self.add_root(module)
        number, root = entry[1], entry[2]
        if root is not None and depth == 0:
            root.called(module)
            number = self.number(root.prefix.rstrip(".") or self.step_name(args, kwargs))
        if number is None:
            return False
        self.thread.depth = depth + 1
        self.library.push(number)
        return True

    def leave(self):
        self.thread.depth -= 1
        self.library.pop()

    def is_made_by_compiler(self, module):
        """The graphs that torch.compile makes are modules too; the program never sees them."""
        graph_module = getattr(getattr(self.torch, "fx", None), "GraphModule", None)
        return graph_module is not None and isinstance(module, graph_module) and "torch._dynamo" in sys.modules

    def add_root(self, module):
        # What torch.compile returns is the module itself, wrapped.
        inner = self.known.get(id(module._modules.get(_COMPILED)))
        if inner is not None and inner[2] is not None and inner[0]() is module._modules[_COMPILED]:
            entry = self.known[id(module)] = (weakref.ref(module), None, inner[2])
            return entry
        # The model comes first and has the plain names; a sampler or a draft model gets its own.
        has_layers = next(module.children(), None) is not None
        first = has_layers and not self.has_model
        self.has_model = self.has_model or has_layers
        self.roots += 1
        prefix = "{}{}.".format(type(module).__name__.lower(), self.roots)
        root = _Root(self, module, "" if first else prefix)
        entry = (weakref.ref(module), None, root)
        self.known[id(module)] = entry
        return entry

    def step_name(self, args, kwargs):
        """A language model gets token ids, [sequences, tokens each]: one token each is a decode step."""
        for value in (*args, *kwargs.values()):
            if not isinstance(value, self.torch.Tensor) or value.dim() != 2:
                continue
            if not value.is_floating_point() and not value.is_complex():
                return "decode_step" if value.shape[1] == 1 else "prefill_step"
        return "forward"


class _Root:
    """A module that the program calls itself, with all below it."""

    def __init__(self, modules, module, prefix):
        self.modules = modules
        self.prefix = prefix
        self.calls = 0
        self.regions = {}  # name -> (address, size)
        self.cache_owners = []  # (weak reference, path, attribute)
        self.look(module)

    def called(self, module):
        # Memory may move (to another device, a new cache): rarely for weights, so ever more rarely
        # looked at.
        self.calls += 1
        if self.calls & (self.calls - 1) == 0:
            self.look(module)
        for owner, path, attribute in self.cache_owners:
            self.name_cache(owner(), path, attribute)

    def look(self, root):
        embedding = self.modules.torch.nn.Embedding
        self.cache_owners = []
        tables = {}
        weights = {}
        for path, module in root.named_modules():
            if path == _COMPILED:  # may be called by itself as well
                self.modules.known[id(module)] = (weakref.ref(module), None, self)
            wrapped = path.endswith(_COMPILED)
            path = ".".join(part for part in path.split(".") if part != _COMPILED)
            # A look-up reads a few rows of its table: a range would claim all of it.
            looks_up = isinstance(module, embedding) or "Embedding" in type(module).__name__
            if path and not wrapped and not (looks_up and next(module.children(), None) is None):
                number = self.modules.number(self.prefix + path)
                self.modules.known[id(module)] = (weakref.ref(module), number, None)
            for kept in (module._parameters, module._buffers):
                for leaf, tensor in kept.items():
                    name = path + "." + leaf if path else leaf
                    (tables if looks_up else weights)[name] = tensor
            for attribute in list(vars(module)):
                if _CACHE.match(attribute):
                    self.cache_owners.append((weakref.ref(module), path, attribute))
            for attribute in module._buffers:
                if _CACHE.match(attribute):
                    weights.pop(path + "." + attribute, None)
                    self.cache_owners.append((weakref.ref(module), path, attribute))
        # Tied weights: named after the module that reads them whole.
        seen = set()
        for name, tensor in (*weights.items(), *tables.items()):
            if tensor is None or self.address(tensor) in seen:
                continue
            seen.add(self.address(tensor))
            self.name(name, tensor)
        for owner, path, attribute in self.cache_owners:
            self.name_cache(owner(), path, attribute)

    @staticmethod
    def address(tensor):
        try:
            return tensor.data_ptr()
        except RuntimeError:  # of a kind that has no storage: meta, sparse, fake
            return 0

    def name(self, name, tensor):
        address = self.address(tensor)
        memory = (address, _tensor_bytes(tensor))
        if address == 0 or memory[1] == 0 or self.regions.get(name) == memory:
            return
        self.regions[name] = memory
        self.modules.library.region((self.prefix + name).encode(), *memory)

    def name_cache(self, owner, path, attribute):
        held = getattr(owner, attribute, None)
        if owner is None or held is None:
            return
        name = path + "." + attribute.lstrip("_")
        if attribute.lstrip("_") not in _CACHE_WORDS:
            name = path + ".kv_cache." + attribute.lstrip("_")
        tensors = held if isinstance(held, (list, tuple)) else (held,)
        for i, tensor in enumerate(tensors[:_MOST_PARTS]):
            if isinstance(tensor, self.modules.torch.Tensor):
                self.name(name if len(tensors) == 1 else "{}.{}".format(name, i), tensor)


def _record_modules(torch, library, is_traced):
    modules = _Modules(torch, library)
    call = torch.nn.Module.__call__

    @functools.wraps(call)
    def recorded(self, *args, **kwargs):
        if is_traced():
            return call(self, *args, **kwargs)
        try:
            entered = modules.enter(self, args, kwargs)
        except Exception as error:  # the program's own code may run in here: properties, subclasses
            library.mark("preserve: module not recorded: {!r}".format(error).encode())
            entered = False
        if not entered:
            return call(self, *args, **kwargs)
        try:
            return call(self, *args, **kwargs)
        finally:
            modules.leave()

    torch.nn.Module.__call__ = recorded


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


class _Collectives:
    def __init__(self, torch, library):
        self.torch = torch
        self.c10d = torch.distributed.distributed_c10d
        self.library = library
        self.sequences = {}  # communicator -> collectives so far
        self.pending = {}  # id of a Work -> (facts, mark)
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
        tensors = tensors or []
        group = bound.get("group")
        if any(tensor.device.type != "cpu" for tensor in tensors):
            return None
        if "gloo" not in self.c10d.get_backend(group):
            return None
        ranks = self.group_ranks(group)
        facts = _Facts(function=function, peer=-1, sequence=-1, ranks=len(ranks))
        facts.bytes = sum(_tensor_bytes(tensor) for tensor in tensors)
        if tensors:
            facts.type = str(tensors[0].dtype).replace("torch.", "").encode()[:20]
        number = 0xCBF29CE484222325
        for rank in ranks:  # the same on all of them
            number = ((number ^ (rank + 1)) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        facts.communicator = number & 0x7FFFFFFFFFFFFFFF
        if peer is not None and isinstance(bound.get(peer), int):
            facts.peer = bound[peer]
        if name not in ("send", "recv", "isend", "irecv"):
            facts.sequence = self.sequences.get(number, 0)
            self.sequences[number] = facts.sequence + 1
        return facts

    def wrap(self, name, call, is_traced):
        called = _CALLED.get(name, name)
        function = self.library.function(("c10d." + called).encode())
        signature = inspect.signature(call)

        def begin(args, kwargs):
            try:
                facts = self.facts(name, function, signature.bind(*args, **kwargs).arguments)
                return facts, self.library.began(facts) if facts is not None else 0
            except Exception as error:  # wrong arguments: the call itself will say so
                self.library.mark("preserve: {} not recorded: {!r}".format(name, error).encode())
                return None, 0

        @functools.wraps(call)
        def recorded(*args, **kwargs):
            # Inside another one: a part of it.
            if is_traced() or getattr(self.thread, "inside", False):
                return call(*args, **kwargs)
            facts, mark = begin(args, kwargs)
            if facts is None:
                return call(*args, **kwargs)
            self.thread.inside = True
            work, failed = None, True
            try:
                work = call(*args, **kwargs)
                failed = False
            finally:
                self.thread.inside = False
                if hasattr(work, "wait"):
                    self.library.issued(facts, mark)
                    forgotten = self.pending.pop(id(work), None)
                    if forgotten is not None:  # nobody waited for it, and its id is in use again
                        self.library.lost(*forgotten)
                    self.pending[id(work)] = (facts, mark)
                else:
                    self.library.ended(facts, mark, 1 if failed else 0)
            return work

        return recorded

    def wrap_wait(self, wait):
        function = self.library.function(b"c10d.wait")

        @functools.wraps(wait)
        def recorded(work, *args, **kwargs):
            entry = self.pending.pop(id(work), None)
            if entry is None:
                return wait(work, *args, **kwargs)
            waiting = _Facts(function=function, peer=-1, bytes=-1, sequence=-1)
            mark = self.library.began(waiting)
            failed = True
            try:
                result = wait(work, *args, **kwargs)
                failed = False
                return result
            finally:
                self.library.ended(waiting, mark, 1 if failed else 0)
                (self.library.lost if failed else self.library.completed)(*entry)

        return recorded

    def wrap_init(self, init):
        @functools.wraps(init)
        def recorded(*args, **kwargs):
            result = init(*args, **kwargs)
            library = "PyTorch {}, {}".format(self.torch.__version__, self.c10d.get_backend())
            self.library.rank(self.c10d.get_rank(), self.c10d.get_world_size(), library.encode())
            return result

        return recorded


def _record_collectives(torch, library, is_traced):
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


def install(torch):
    library = _Library(os.environ["NVTX_INJECTION64_PATH"])
    wanted = library.wanted()
    is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)
    is_tracing = torch.jit.is_tracing

    def is_traced():
        return is_compiling() or is_tracing()

    if wanted & 1:
        _record_modules(torch, library, is_traced)
    if wanted & 2:
        _record_collectives(torch, library, is_traced)
