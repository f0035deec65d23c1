"""Freed activations are kept for the next batch where glibc can be told to."""

import platform
import resource

import torch

from train.memory import keep_freed_memory


def test_a_large_block_is_not_zeroed_again_for_every_batch():
    if not keep_freed_memory():
        assert platform.libc_ver()[0] != "glibc"
        return
    torch.ones(20_000_000)  # 80 MB: far above what glibc would otherwise give back at once

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(20_000_000)

    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 5 * 20_000_000 * 4 / 4096 / 2  # nearly all of them, if each block were new
