"""The device that a user asks for, such as `cuda:1`: whether it is there."""

import torch

from seqvae.errors import ConfigError, shorten

Device = str | torch.device | None  # None leaves the choice to the package


def choose_device(given: Device) -> torch.device | None:
    """Return the device of that name; None for None.

    Raises:
        ConfigError: for a device that is not one of `list_devices`.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if given is None:
        return None
    known = list_devices()
    try:
        device = torch.device(given)
    except (RuntimeError, TypeError):  # no name of a device
        device = None
    kinds = {name.partition(":")[0] for name in known}
    if device is None or (str(device) not in known and (device.index is not None or device.type not in kinds)):
        raise ConfigError(f"device = {shorten(str(given))}: this machine has {', '.join(known)}; write one of these")
    return device


def list_devices() -> list[str]:
    """List the devices that can compute in double precision, as the scores do: `cpu`, and `cuda:0` and so on."""
    found = torch.accelerator.current_accelerator()
    if found is None or found.type == "mps":
        return ["cpu"]
    return ["cpu", *(f"{found.type}:{number}" for number in range(torch.accelerator.device_count()))]
