# SPDX-License-Identifier: Apache-2.0
"""As much of PyTorch as hooks/torch looks at, where the tests should not need PyTorch itself."""
import math
import sys
import types


class Device:
    type = "cpu"


class Tensor:
    def __init__(self, *shape, dtype="torch.float32", address=0):
        self.shape, self.dtype, self.device, self._address = shape, dtype, Device(), address

    def dim(self):
        return len(self.shape)

    def numel(self):
        return math.prod(self.shape)

    def element_size(self):
        return 8 if self.dtype == "torch.int64" else 4

    def data_ptr(self):
        if self._address is None:
            raise RuntimeError("no storage")
        return self._address

    def is_floating_point(self):
        return "float" in self.dtype

    def is_complex(self):
        return False


class Parameter(Tensor):
    pass


class Sharded(Tensor):  # as DTensor is
    def __init__(self, *shape, local):
        super().__init__(*shape, address=None)
        self._local_tensor = local

    def __tensor_flatten__(self):
        return ["_local_tensor"], None


class FakeTensor(Tensor):  # what a compiler traces with
    pass


class Operator:
    def __init__(self, call):
        self._op = call

    def __call__(self, *args, **kwargs):
        return self._op(*args, **kwargs)


class Packet(Operator):
    def __init__(self, call):
        super().__init__(call)
        self.default = Operator(call)


def after(input, *rest, group_name=None):
    if "no group" in rest:
        raise ValueError("no such group")
    return Tensor(*input.shape, address=input.data_ptr() + 0x100)


class Module:
    def __init__(self):
        self._parameters, self._buffers, self._modules = {}, {}, {}

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def children(self):
        return iter(self._modules.values())

    def named_modules(self, prefix=""):
        yield prefix, self
        for name, module in self._modules.items():
            yield from module.named_modules(prefix + ("." if prefix else "") + name)

    def parameters(self):
        for _, module in self.named_modules():
            yield from module._parameters.values()


class Embedding(Module):
    pass


class DistributedDataParallel(Module):
    pass


def compile(module):
    wrapper = Module()
    wrapper._modules["_orig_mod"] = module
    wrapper.forward = module
    return wrapper


class GraphModule(Module):
    pass


class Work:
    def wait(self):
        return True


def all_reduce(tensor, op=None, group=None, async_op=False):
    return Work() if async_op else None


def broadcast(tensor, src, group=None, async_op=False):
    return all_reduce(tensor)  # not a collective of its own


def barrier(group=None, async_op=False):
    if group == "bad":
        raise ValueError("no such group")


def init_process_group(backend):
    pass


__version__ = "0.0"
fx = types.SimpleNamespace(GraphModule=GraphModule)
sys.modules[__name__ + "._dynamo"] = types.ModuleType(__name__ + "._dynamo")
nn = types.SimpleNamespace(
    Module=Module,
    Embedding=Embedding,
    Parameter=Parameter,
    parallel=types.SimpleNamespace(DistributedDataParallel=DistributedDataParallel),
)
ops = types.SimpleNamespace(
    _c10d_functional=types.SimpleNamespace(
        all_reduce=Packet(after), all_gather_into_tensor=Packet(after), wait_tensor=Packet(lambda tensor: tensor)
    )
)
jit = types.SimpleNamespace(is_tracing=lambda: False)
functions = {function.__name__: function
             for function in (all_reduce, broadcast, barrier, init_process_group)}
distributed = types.SimpleNamespace(is_available=lambda: True, **functions)
distributed.distributed_c10d = types.SimpleNamespace(
    **functions,
    get_backend=lambda group=None: "gloo",
    get_rank=lambda: 3,
    get_world_size=lambda: 4,
    get_process_group_ranks=lambda group: [0, 1, 2, 3],
    _get_default_group=lambda: "world",
)
_C = types.SimpleNamespace(
    _distributed_c10d=types.SimpleNamespace(
        Work=Work, _resolve_process_group=lambda name: "world"
    )
)

