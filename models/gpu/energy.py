"""Energy that a GPU has used, as its driver counts it; nothing where there is no such driver."""

from __future__ import annotations

import ctypes
from functools import cache

import torch


class EnergyMeter:
    """Counts from when it is made.

    All that runs on the device is counted, that of other processes too.

    Args:
        device: of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self._uuid = _uuid_of(device)
        self._start = None if self._uuid is None else _millijoules(self._uuid)

    def joules(self) -> float | None:
        """Since the meter was made; None where the driver does not tell."""
        if self._uuid is None or self._start is None:
            return None
        now = _millijoules(self._uuid)
        return None if now is None else (now - self._start) / 1000.0


def _uuid_of(device: torch.device) -> str | None:
    """The name by which NVIDIA's driver knows a device, whatever CUDA_VISIBLE_DEVICES says."""
    if device.type != "cuda":
        return None
    try:
        uuid = str(torch.cuda.get_device_properties(device).uuid)
    except (AttributeError, RuntimeError):  # a torch that does not tell, or another maker's device
        return None
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


@cache
def _driver() -> ctypes.CDLL | None:
    """NVIDIA's management library (NVML), which comes with the driver."""
    try:
        driver = ctypes.CDLL("libnvidia-ml.so.1")
        return driver if driver.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


def _millijoules(uuid: str) -> int | None:
    """Since the driver was loaded; counted since Volta."""
    driver, handle, used = _driver(), ctypes.c_void_p(), ctypes.c_ulonglong()
    if driver is None:
        return None
    try:
        if driver.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)):
            return None
        if driver.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(used)):
            return None
    except AttributeError:  # an old driver
        return None
    return used.value
