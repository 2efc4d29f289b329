"""Several processes that train or evaluate one model together, and tables whose rows are divided among them.

`processes` has the one protocol (rank, count, collective operations) that all other rooms know;
`torch_processes` is it over torch.distributed, and `join` how processes meet. Comes in: tensors and Python
objects of this process. Goes out: those of all. May import: nothing else of models.
"""
