"""How far each figure could be off: groups, their draws, and the ends of 95 % intervals.

`groups` says which images go together and how much so few groups can tell, `draws` draws them, `ends`
makes intervals of the draws. Two figures have ways of their own: `rates` (true positive rates, which few
reals decide) and `gaps` (the calibration error, to which noise adds). How often the intervals hold the
truth is measured by `tests/benchmarks/intervals.py`. May import: train.metrics.
"""
