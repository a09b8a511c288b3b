"""Fill the cache of compiled kernels: `python -m src.detection.precompile`.

The kernels have explicit signatures, so importing them compiles them or loads them from the cache
(`__pycache__`, or NUMBA_CACHE_DIR). The set-up and the image do it once; the bot then starts in a
fraction of a second instead of compiling for several.
"""

import sys

import numpy as np
from numba.core.registry import CPUDispatcher

from src.detection.features import kernel as feature_kernel
from src.detection.features.batch import TransferBatch
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_table
from src.detection.trees import tree_shap, trees

KERNEL_MODULES = (feature_kernel, trees, tree_shap)


def compiled_kernels() -> list[str]:
    """Names of the kernels that are compiled or loaded, after importing them all."""
    return [
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in KERNEL_MODULES
        for name, kernel in vars(module).items()
        if isinstance(kernel, CPUDispatcher) and kernel.signatures
    ]


def main() -> int:
    """Compile or load every kernel and run the features once; returns the exit code."""
    profile = TokenProfile.from_amounts({})
    batch = TransferBatch.from_transactions([([], "0x" + "1" * 40)])
    table = feature_table(batch, profile, "larger")
    if table.shape != (1, len(FEATURE_NAMES)) or np.any(table):
        sys.stderr.write("precompile: the feature kernel does not work on this machine\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
