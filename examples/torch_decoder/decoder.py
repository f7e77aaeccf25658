# SPDX-License-Identifier: Apache-2.0
"""A tensor-parallel decoder in ordinary PyTorch; it knows nothing of Preserve.

    python3 examples/torch_decoder/decoder.py --ranks 2
    preserve-profile --torch -- python3 examples/torch_decoder/decoder.py --ranks 2

Under torchrun its RANK and WORLD_SIZE count instead.

Weights are random, drawn from --seed, and the same model whatever the number of ranks.
"""
import argparse
import hashlib
import os
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.nn import functional as F


class Shard(nn.Module):
    """This rank's part of a linear layer: rows of the output, or columns with a sum over ranks."""

    def __init__(self, whole, rank, ranks, by_rows):
        super().__init__()
        part = whole.chunk(ranks, dim=0 if by_rows else 1)[rank]
        self.weight = nn.Parameter(part.contiguous(), requires_grad=False)

    def forward(self, x):
        return F.linear(x, self.weight)


class Attention(nn.Module):
    def __init__(self, draw, options, rank, ranks):
        super().__init__()
        self.heads = options.heads // ranks
        self.size = options.hidden // options.heads
        qkv = [draw(options.hidden, options.hidden) for _ in range(3)]
        parts = [whole.chunk(ranks, dim=0)[rank] for whole in qkv]
        self.qkv = Shard(torch.cat(parts), 0, 1, by_rows=True)
        self.o = Shard(draw(options.hidden, options.hidden), rank, ranks, by_rows=False)
        shape = (options.batch, self.heads, options.context, self.size)
        self.k_cache = torch.zeros(shape)
        self.v_cache = torch.zeros(shape)

    def forward(self, x, position):
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        end = position + tokens
        self.k_cache[:, :, position:end] = k
        self.v_cache[:, :, position:end] = v
        scores = q @ self.k_cache[:, :, :end].transpose(2, 3) / self.size**0.5
        later = torch.ones(tokens, end, dtype=torch.bool).triu(position + 1)
        weights = scores.masked_fill(later, float("-inf")).softmax(-1)
        mixed = (weights @ self.v_cache[:, :, :end]).transpose(1, 2).reshape(batch, tokens, -1)
        y = self.o(mixed)
        dist.all_reduce(y)
        return y


class Mlp(nn.Module):
    def __init__(self, draw, options, rank, ranks):
        super().__init__()
        self.up = Shard(draw(options.inner, options.hidden), rank, ranks, by_rows=True)
        self.down = Shard(draw(options.hidden, options.inner), rank, ranks, by_rows=False)

    def forward(self, x):
        y = self.down(F.silu(self.up(x)))
        dist.all_reduce(y)
        return y


class Layer(nn.Module):
    def __init__(self, draw, options, rank, ranks):
        super().__init__()
        self.attention_norm = nn.LayerNorm(options.hidden)
        self.attention = Attention(draw, options, rank, ranks)
        self.mlp_norm = nn.LayerNorm(options.hidden)
        self.mlp = Mlp(draw, options, rank, ranks)

    def forward(self, x, position):
        x = x + self.attention(self.attention_norm(x), position)
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    def __init__(self, options, rank, ranks):
        super().__init__()
        generator = torch.Generator().manual_seed(options.seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator) * 0.05

        self.embed = nn.Embedding.from_pretrained(draw(options.vocabulary, options.hidden))
        self.layers = nn.ModuleList(
            Layer(draw, options, rank, ranks) for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(options.hidden)
        self.head = Shard(draw(options.vocabulary, options.hidden), 0, 1, by_rows=True)

    def forward(self, tokens, position):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, position)
        return self.head(self.norm(x[:, -1]))


def read_options():
    parser = argparse.ArgumentParser(description="A tensor-parallel decoder in ordinary PyTorch.")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--inner", type=int, default=2816)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=1)
    options = parser.parse_args()
    options.context = options.prompt + options.tokens
    if "WORLD_SIZE" in os.environ:
        options.ranks = int(os.environ["WORLD_SIZE"])
    if options.heads % options.ranks or options.inner % options.ranks:
        parser.error("the number of ranks must divide --heads and --inner")
    if options.hidden % options.heads:
        parser.error("--heads must divide --hidden")
    return options


@torch.no_grad()
def generate(rank, options, where):
    torch.set_num_threads(1)
    ranks = options.ranks
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=ranks)
    model = Decoder(options, rank, ranks)
    tokens = torch.arange(options.batch * options.prompt).view(options.batch, -1)
    tokens = tokens % options.vocabulary
    produced, times, position = [], [], 0
    for _ in range(options.tokens):
        start = time.perf_counter()
        tokens_next = model(tokens, position).argmax(-1, keepdim=True)
        times.append(time.perf_counter() - start)
        position += tokens.shape[1]
        tokens = tokens_next
        produced += tokens_next.flatten().tolist()
    if rank == 0:
        steps = sorted(times[1:]) or [0.0]
        print("median step: {:.3f} ms".format(1000 * steps[len(steps) // 2]))
        print("checksum:", hashlib.sha256(repr(produced).encode()).hexdigest()[:16])
    dist.destroy_process_group()


def main():
    options = read_options()
    if "RANK" in os.environ:
        generate(int(os.environ["RANK"]), options, "env://")
        return
    with tempfile.TemporaryDirectory() as folder:
        where = "file://" + os.path.join(folder, "ranks")
        torch.multiprocessing.spawn(generate, args=(options, where), nprocs=options.ranks)


if __name__ == "__main__":
    main()
