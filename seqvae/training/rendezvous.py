"""How the processes of torchrun find each other when it has started them anew.

torchrun keeps one store for all starts. It still holds the addresses of the processes before, and one that reads such
an address waits for the dead. Nothing in the environment numbers the starts alike on all machines: where a process
failed its number of restarts grows, where the others were only started again with it it does not. So the processes
agree on a name for each start, and put it before their keys.
"""

import json
import os
import time
import uuid
from typing import Any

from seqvae.errors import ConfigError

PLACE = "seqvae"
TIMEOUT, PAUSE = 1800.0, 0.02  # seconds


def find_keys() -> dict[str, Any]:
    """Return store, rank and number of processes, arguments of `init_process_group`, for processes of torchrun.

    Returns:
        nothing where another launcher, or none, started this process, since each start has a store of its own then.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    from torch.distributed import PrefixStore, rendezvous

    store, rank, world = next(rendezvous("env://"))
    return {"store": PrefixStore(agree(store, rank, world), store), "rank": rank, "world_size": world}


def agree(store: Any, rank: int, world: int, timeout: float = TIMEOUT) -> str:
    """Agree with the other processes of this start on a name that no earlier start had.

    Each process but the first leaves a token of its own. The first one publishes the name with the tokens that it sees,
    again and again; what an earlier start has left there lacks the token of a process that is new, so that it is not
    believed. A process that finds its token says so below the name.

    Args:
        store: of all processes and starts.
        rank: of this process.
        world: the number of processes.
        timeout: seconds until it is given up.

    Raises:
        ConfigError: if not all processes have come by then.
    """
    own, end = uuid.uuid4().hex, time.monotonic() + timeout
    others = range(1, world)
    if rank:
        store.set(f"{PLACE}/{rank}", own)
    while time.monotonic() < end:
        if rank == 0:
            seen = [store.get(f"{PLACE}/{n}").decode() for n in others if store.check([f"{PLACE}/{n}"])]
            store.set(PLACE, json.dumps([own, seen]))
            if all(store.check([f"{PLACE}/{own}/{n}"]) for n in others):
                return f"{PLACE}/{own}"
        elif store.check([PLACE]):
            name, seen = json.loads(store.get(PLACE))
            if own in seen:
                store.set(f"{PLACE}/{name}/{rank}", "here")
                return f"{PLACE}/{name}"
        time.sleep(PAUSE)
    raise ConfigError(
        f"process {rank} of {world} waited {timeout:g} seconds for the others: start as many as are named"
    )
