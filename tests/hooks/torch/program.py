# SPDX-License-Identifier: Apache-2.0
"""A program with two layers, tied weights, caches, collectives and an error."""
import sys

import torch

print("path", [entry for entry in sys.path if "preserve" in entry])


class Layer(torch.nn.Module):
    def __init__(self, base):
        super().__init__()
        self._parameters["weight"] = torch.Tensor(8, 4, address=base)
        self.k_cache = torch.Tensor(16, 4, address=base + 0x1000)
        self.kv_cache = [torch.Tensor(2, 4, address=base + 0x2000), "no tensor"]
        self.cache_v = None
        self._parameters["bias"] = torch.Sharded(8, local=torch.Tensor(2, address=base + 0x3000))
        self.past_key_value = {"k": torch.Tensor(4, address=base + 0x4000), "length": 3}

    def forward(self, x, fail):
        if fail:
            raise KeyError("of the program")
        torch.distributed.all_reduce(x)
        return x


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        embedding = torch.nn.Embedding()
        embedding._parameters["weight"] = torch.Tensor(100, 4, address=0x90000)
        embedding.forward = lambda x: torch.Tensor(1, 4)
        head = torch.nn.Module()
        head._parameters["weight"] = embedding._parameters["weight"]
        head._buffers["scale"] = torch.Tensor(1, address=None)
        head.forward = lambda x: x
        self._modules = {"embed": embedding, "l0": Layer(0x10000), "l1": Layer(0x20000), "head": head}

    def forward(self, tokens, fail=False):
        x = self._modules["embed"](tokens)
        for name in ("l0", "l1"):
            x = self._modules[name](x, fail)
        return self._modules["head"](x)


torch.distributed.init_process_group("gloo")
model = Model()
model(torch.Tensor(1, 5, dtype="torch.int64"))
for step in range(3):
    model(torch.Tensor(1, 1, dtype="torch.int64"))
    if step == 0:  # the cache grows
        model._modules["l0"].cache_v = torch.Tensor(32, 4, address=0x40000)
try:
    model(torch.Tensor(1, 1, dtype="torch.int64"), fail=True)
except KeyError as error:
    print("error", error)
compiled = torch.compile(model)  # the same module
compiled(torch.Tensor(1, 1, dtype="torch.int64"))
graph = torch.fx.GraphModule()  # made by the compiler
graph.forward = lambda x: x
graph(torch.Tensor(1, 4))
sampler = torch.nn.Module()  # a root of its own
sampler.forward = lambda x, past_key_values=None: x
sampler(torch.Tensor(1, 4), past_key_values=[torch.Tensor(4, address=0x70000)])
parallel = torch.nn.parallel.DistributedDataParallel()
parallel._parameters["weight"] = torch.Tensor(1, address=None)
parallel.forward = lambda x: x
parallel(torch.Tensor(1, 4))
replica = Model()  # as DataParallel makes them, in every step
for _, part in replica.named_modules():
    part._is_replica = True
replica(torch.Tensor(1, 1, dtype="torch.int64"))
work = torch.distributed.all_reduce(torch.Tensor(256, address=1), async_op=True)
print("work", type(work).__name__, work.wait())
torch.distributed.broadcast(torch.Tensor(2, 2, address=1), 2)
functional = torch.ops._c10d_functional
functional.wait_tensor(functional.all_reduce(torch.Tensor(512, address=0x50000), "sum", "0"))
parts = functional.all_gather_into_tensor.default(torch.Tensor(8, address=0x60000), 4, group_name="0")
print("parts", functional.wait_tensor.default(parts).shape)
functional.all_reduce(torch.FakeTensor(4, address=1), "sum", "0")
for refused in (lambda: functional.all_reduce(torch.Tensor(4, address=1), "sum", "no group"),
                lambda: torch.distributed.barrier(group="bad")):
    try:
        refused()
    except ValueError as error:
        print("error", error)
print("name", torch.nn.Module.__call__.__name__, torch.distributed.all_reduce.__name__)
