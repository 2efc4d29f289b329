"""Damaged files: every file that the program reads, changed at random, by the same seeds each time.

- `mutations_json`, `mutations_parquet`, `mutations_safetensors`: what a seed makes of a file.
- `trial`: a command run in this process on a damaged copy, and what is wanted of it: the right answer, or
  exit code 1 with what, where and what to do; no stack trace, no signal, nothing else touched, within a time.
- `test_*`: the files of a data set and of a run, through the commands that read them.

`LRM_DAMAGE_TRIALS=20` tries twenty times as many seeds; a failure names the seed and what it changed.
"""
