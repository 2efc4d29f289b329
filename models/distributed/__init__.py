"""Several processes that train or evaluate one model together, and item tables whose rows they may divide.

- `processes`: the one protocol (rank, count, collective operations) that all other rooms know, and the
  process that is alone. `torch_processes`: it over torch.distributed; `join`: how processes find each other.
- `tables`: embedding tables of items, whole or with their rows divided among processes.

In: tensors and Python objects of this process. Out: those of all. May import `behavior`, and of `models`:
layers (roles, initial values).
"""
