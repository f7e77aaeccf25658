# SPDX-License-Identifier: Apache-2.0
"""Python runs this at its start, because preserve-profile --torch puts its folder first in PYTHONPATH.

It waits for the program to import torch, and lets recorder.py see it then. Nothing of the program
changes: no module is imported early, sys.path is as without it, and a sitecustomize of the program
or the distribution runs as ever.
"""
import importlib.machinery
import importlib.util
import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _load(name, path, register=False):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    if register:
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class _AfterTorch:
    """Finds torch as Python would, and calls the recorder when it has been imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _load("preserve_torch_recorder", os.path.join(_FOLDER, "recorder.py")).install(module)

        spec.loader.exec_module = exec_module
        return spec


def _start():
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _FOLDER]
    if os.environ.get("NVTX_INJECTION64_PATH") and "torch" not in sys.modules:
        sys.meta_path.insert(0, _AfterTorch())
    shadowed = importlib.machinery.PathFinder.find_spec("sitecustomize")
    if shadowed is not None and shadowed.origin is not None:
        _load("sitecustomize", shadowed.origin, register=True)


_start()
