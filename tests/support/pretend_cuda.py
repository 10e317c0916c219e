"""A graphics card that is none: tensors know on which side they are, and sides do not mix.

Every tensor lies in the machine's own memory. Those that were made on "cuda", or come from such,
are noted by their storage; they say so when asked for their device and may not meet others in one
operation or kernel, nor be handed to numpy. So all moves between devices in a whole run are checked
where there is no card. It tells nothing of speed, memory or a card's own numbers.

Allowed between sides, as PyTorch has it: copies, numbers without axes that are on the host, and
indices on the host.
"""

import contextlib
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import warp as wp
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreamlab.ops import backends, warp_setup

CARD, HOST = torch.device("cuda", 0), torch.device("cpu")
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")
COPIES = ("copy_", "_to_copy")
MEMORY = 80 << 30
"""Of the card, bytes; all of it is always free."""


class Sides:
    """Which storages are on the card."""

    def __init__(self) -> None:
        self._noted: dict[int, StorageWeakRef] = {}
        self.of_new = False
        """Whether what a function of PyTorch makes inside itself is on the card."""

    def is_on_card(self, tensor: Tensor) -> bool:
        with torch._C.DisableTorchFunction():
            noted = self._noted.get(tensor.untyped_storage()._cdata)
        return noted is not None and not noted.expired()

    def put(self, tensors: Any, on_card: bool) -> None:
        for tensor in _tensors(tensors):
            with torch._C.DisableTorchFunction():
                storage = tensor.untyped_storage()
            if on_card:
                self._noted[storage._cdata] = StorageWeakRef(storage)
            else:
                self._noted.pop(storage._cdata, None)
        if len(self._noted) > 20_000:
            self._noted = {k: ref for k, ref in self._noted.items() if not ref.expired()}


SIDES = Sides()
"""Of the whole process: what is on the card may be kept from one test to the next."""


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class _Operations(TorchDispatchMode):
    """Below autograd: what is computed is where its sources are, all of them on one side."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        name = func.overloadpacket.__name__
        result = func(*args, **kwargs)
        on_card = [SIDES.is_on_card(tensor) for tensor in given]
        if (any(on_card) and name != "copy_") or (not given and SIDES.of_new):
            SIDES.put(result, True)
        of_host = [not side for side, tensor in zip(on_card, given, strict=True) if tensor.ndim]
        may_mix = name in COPIES or (name in INDEXED and on_card[0])
        if any(on_card) and any(of_host) and not may_mix:
            sides = [(tuple(x.shape), "card" if SIDES.is_on_card(x) else "host") for x in given]
            raise RuntimeError(f"{func}: tensors on two devices: {sides}")
        return result


class _Calls(TorchFunctionMode):
    """Above autograd: what asks for a device or names one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func == Tensor.device.__get__:
            return CARD if SIDES.is_on_card(args[0]) else func(*args)
        if func == Tensor.is_cuda.__get__:
            return SIDES.is_on_card(args[0])
        if name in ("numpy", "__array__") and SIDES.is_on_card(args[0]):
            raise TypeError("can't convert a tensor of a card to numpy; use Tensor.cpu() first")
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return _moved(name, *args, **kwargs)
        if name.startswith("new_"):
            kwargs.setdefault("device", _device_of(args[0]))
        device = kwargs.pop("device", None)
        if device is not None:
            is_card = torch.device(device).type == "cuda"
            result = func(*args, device=HOST if is_card else device, **kwargs)
            SIDES.put(result, is_card)
            return result
        before = SIDES.of_new
        SIDES.of_new = any(map(SIDES.is_on_card, _tensors((args, kwargs))))
        try:
            return func(*args, **kwargs)
        finally:
            SIDES.of_new = before


def _moved(name: str, tensor: Tensor, *where: Any, **kwargs: Any) -> Tensor:
    """Carry out `to`, `cpu` and `cuda`: a new storage where the side is another one."""
    was = SIDES.is_on_card(tensor)
    if name != "to":
        named, where = [HOST if name == "cpu" else CARD], ()
    else:
        named = [x for x in [kwargs.pop("device", None), *where[:1]] if _names_a_device(x)]
        where = where[1:] if where and _names_a_device(where[0]) else where
    here = CARD if was else tensor.device
    device = torch.device(_device_of(named[0])) if named else here
    if named and isinstance(named[0], Tensor):
        kwargs.setdefault("dtype", named[0].dtype)
    is_card = device.type == "cuda"
    result = tensor.to(HOST if is_card else device, *where, **kwargs)
    if is_card != was:
        with torch._C.DisableTorchFunction():
            is_same = result.untyped_storage()._cdata == tensor.untyped_storage()._cdata
            result = result.clone() if is_same else result
        SIDES.put(result, is_card)
    return result


def _names_a_device(value: Any) -> bool:
    return isinstance(value, str | int | torch.device | Tensor) and not isinstance(value, bool)


def _device_of(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return CARD if SIDES.is_on_card(value) else value.device


def _card() -> dict[str, Any]:
    """Return what `torch.cuda` says of the card."""
    properties = types.SimpleNamespace(
        name="Pretended", total_memory=MEMORY, major=9, minor=0, multi_processor_count=132
    )
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: properties.name,
        "get_device_properties": lambda *_: properties,
        "mem_get_info": lambda *_: (MEMORY, MEMORY),
        "memory_allocated": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
    }


@contextlib.contextmanager
def pretended_card() -> Iterator[None]:
    """Let there be one card, "cuda"."""
    arguments, launch, array = warp_setup._arguments, warp_setup._launch, wp.array
    backward, calls = torch.autograd._engine_run_backward, _Calls()

    def checked(kernel: Any, inputs: Any, leading: int) -> list[Any]:
        given = [x for x in inputs if isinstance(x, Tensor) and x.numel()]
        if len({SIDES.is_on_card(x) for x in given}) > 1:
            sides = [(tuple(x.shape), SIDES.is_on_card(x)) for x in given]
            raise RuntimeError(f"{kernel.key}: arrays on two devices: {sides}")
        with torch._C.DisableTorchFunction():
            return arguments(kernel, inputs, leading)

    def on_host(kernel: Any, _: Any, items: int, values: list[Any]) -> None:
        with torch._C.DisableTorchFunction():
            launch(kernel, HOST, items, values)

    def host_array(*args: Any, device: Any = None, **kwargs: Any) -> Any:
        return array(*args, device=None if device is None else "cpu", **kwargs)

    def backward_with_calls(*args: Any, **kwargs: Any) -> Any:
        with calls:
            return backward(*args, **kwargs)

    replaced = [
        *((torch.cuda, name, value) for name, value in _card().items()),
        (torch.autograd, "_engine_run_backward", backward_with_calls),
        (warp_setup, "_arguments", checked),
        (warp_setup, "_launch", on_host),
        (warp_setup, "_loaded_on", lambda *_: None),
        (warp_setup, "has_cuda", lambda: True),
        (wp, "array", host_array),
    ]
    with contextlib.ExitStack() as stack:
        for place, name, value in replaced:
            stack.enter_context(mock.patch.object(place, name, value))
        forget = backends._warp_obstacle.cache_clear
        forget()
        stack.callback(forget)
        stack.enter_context(_Operations())
        stack.enter_context(calls)
        yield
