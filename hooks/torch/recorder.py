# SPDX-License-Identifier: Apache-2.0
"""What a PyTorch program does, told to the collector: the path of each module as a range, weights,
buffers and KV caches as named memory, collectives on CPU tensors (collectives.py).

Runs inside the program: it must not raise, print, keep anything alive or change a result. It stays
out of what torch.compile and torch.jit trace; a CUDA graph sees each range once, as it is captured.
What goes wrong here ends up as a mark in the trace.
"""
import ctypes
import functools
import importlib.util
import os
import re
import sys
import threading
import weakref

# Attributes in which attention modules of serving engines keep their cache: a tensor, or several. Words
# for keys and values, and one that says that they are kept.
_CACHE = re.compile(
    r"^_*(?=.*(cache|past|prev|buffer|pool))((layer|paged|self|attn|past|prev|cached?|compressed|latent)_)*"
    r"(c?kv|k|v|keys?|values?|key_values?|layer_past)(_?(caches?|buffers?|pool|states?))?$"
)
_CACHE_WORDS = ("k_cache", "v_cache", "kv_cache", "key_cache", "value_cache")  # a name of one says it
_COMPILED = "_orig_mod"  # what torch.compile calls the module that it wraps
_MOST_PARTS = 64
_MOST_STRINGS = 1 << 16
_MOST_ROOTS = 64


class _Library:
    """The collector's functions. PyDLL: they are shorter than handing the interpreter over."""

    def __init__(self, path, facts_type):
        library = ctypes.PyDLL(path)
        facts = ctypes.POINTER(facts_type)
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


def _tensors_in(held, tensor_type, levels=2):
    """(suffix of a name, tensor) of what an attribute holds: a tensor, or lists, dictionaries and plain
    objects of tensors."""
    if isinstance(held, tensor_type):
        yield "", held
        return
    if levels == 0:
        return
    if isinstance(held, dict):
        parts = list(held.items())
    elif isinstance(held, (list, tuple)):
        parts = [("", held[0])] if len(held) == 1 else list(enumerate(held))
    elif hasattr(held, "__dict__") and not callable(held):
        parts = list(vars(held).items())
    else:
        return
    for key, part in parts[:_MOST_PARTS]:
        for suffix, tensor in _tensors_in(part, tensor_type, levels - 1):
            yield (".{}".format(key) if key != "" else "") + suffix, tensor


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
            root.called(module, kwargs)
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
        self.say_who_calls_from_cpp(module)
        prefix = "{}{}.".format(type(module).__name__.lower(), self.roots)
        root = _Root(self, module, "" if first else prefix)
        entry = (weakref.ref(module), None, root)
        self.known[id(module)] = entry
        return entry

    def say_who_calls_from_cpp(self, module):
        parallel = getattr(getattr(self.torch.nn, "parallel", None), "DistributedDataParallel", None)
        if not isinstance(parallel, type) or not isinstance(module, parallel):
            return
        if any(parameter.device.type == "cpu" for parameter in module.parameters()):
            self.library.mark(
                b"preserve: DistributedDataParallel calls its collectives from C++: on CPU tensors they are not recorded"
            )

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
        self.arguments = set()  # caches that were handed over
        self.look(module)

    def called(self, module, kwargs):
        # Memory may move (to another device, a new cache): rarely for weights, so ever more rarely
        # looked at.
        self.calls += 1
        if self.calls & (self.calls - 1) == 0:
            self.look(module)
            for name, value in kwargs.items():
                if value is not None and name not in self.arguments and _CACHE.match(name):
                    self.arguments.add(name)
                    text = "preserve: {} is an argument: a cache that no module has as an attribute is not named"
                    self.modules.library.mark(text.format(name).encode())
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
        for name, whole in (*weights.items(), *tables.items()):
            for part, tensor in self.stored(name, whole):
                if self.address(tensor) not in seen:
                    seen.add(self.address(tensor))
                    self.name(part, tensor)
        for owner, path, attribute in self.cache_owners:
            self.name_cache(owner(), path, attribute)

    def stored(self, name, tensor, levels=3):
        """The tensors that have the memory of one: itself, or those that it wraps (DTensor, quantized)."""
        if tensor is None:
            return
        flatten = getattr(tensor, "__tensor_flatten__", None)
        if flatten is None or levels == 0:
            yield name, tensor
            return
        inner = flatten()[0]
        path, _, leaf = name.rpartition(".")
        for attribute in inner:
            own = name if len(inner) == 1 else ".".join(filter(None, (path, attribute, leaf)))
            yield from self.stored(own, getattr(tensor, attribute), levels - 1)

    @staticmethod
    def address(tensor):
        try:
            return tensor.data_ptr()
        except RuntimeError:  # of a kind that has no storage: meta, sparse, fake
            return 0

    def name(self, name, tensor):
        address = self.address(tensor)
        memory = (address, tensor.numel() * tensor.element_size())
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
        for suffix, tensor in _tensors_in(held, self.modules.torch.Tensor):
            self.name(name + suffix, tensor)


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


def _beside(name):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location("preserve_torch_" + name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install(torch):
    collectives = _beside("collectives")
    library = _Library(os.environ["NVTX_INJECTION64_PATH"], collectives.Facts)
    wanted = library.wanted()
    is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)
    is_tracing = torch.jit.is_tracing

    def is_traced():
        return is_compiling() or is_tracing()

    if wanted & 1:
        _record_modules(torch, library, is_traced)
    if wanted & 2:
        collectives.record(torch, library, is_traced)
