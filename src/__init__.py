"""The bot and everything around it; `agent` is what Forta runs."""

import os

# numba reads this when it is imported, which every kernel does later. Its own choice needs a folder
# that can be written, in the checkout or at home: a service's user may have neither.
if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ.setdefault(
        "NUMBA_CACHE_LOCATOR_CLASSES", "src.detection.kernel_cache.ShippedKernels"
    )
