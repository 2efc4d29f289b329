"""Public data sets: ready-made specs, and the download of their files from where they are published.

In: the name of a data set. Out: the path of its spec; its files, downloaded, checked and unpacked.
May import: `behavior.spec`.

    datasets.names()                     ml-1m, taobao, ...
    fetch.fetch("ml-1m", "raw/ml-1m")    downloads, checks and unpacks
"""

from behavior.spec.ready import SOURCES, names, path_of

__all__ = ["SOURCES", "names", "path_of"]
