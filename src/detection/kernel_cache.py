"""Where numba finds compiled kernels that cannot be written beside their sources.

numba keeps compiled kernels in `__pycache__` and refuses a folder that it cannot write, even when
all that it needs is in there: the bot would compile for half a minute at every start, or on a
read-only root file system not start at all. `src/__init__.py` therefore names this locator, unless
`NUMBA_CACHE_DIR` says where the kernels go.
"""

import atexit
import functools
import hashlib
import shutil
import tempfile
from pathlib import Path

from numba.core.caching import InTreeCacheLocator


class ShippedKernels(InTreeCacheLocator):
    """The kernels beside the sources, also where that folder is read-only.

    A kernel is compiled together with the functions that it calls, and numba looks at the file of
    the kernel alone. Here a change to any source of its folder makes it stale.
    """

    def get_source_stamp(self) -> str:
        """A digest of the sources in the folder."""
        digest = hashlib.sha256()
        for path in sorted(Path(self._py_file).parent.glob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def ensure_cache_path(self) -> None:
        """Go on with a private folder of links where numba's own choice cannot be written.

        Raises:
            OSError: there is no writable folder for temporary files either.
        """
        try:
            super().ensure_cache_path()  # type: ignore[no-untyped-call]
        except OSError:
            self._cache_path = str(_private_links(Path(self._cache_path)))


@functools.cache
def _private_links(folder: Path) -> Path:
    """A new folder, this process's own, that starts with links to the kernels of `folder`.

    Own, because what lies in a cache is unpickled: a name that others can guess would let them
    choose it. Writable, so that a kernel that does not fit this machine is compiled and kept.
    """
    links = Path(tempfile.mkdtemp(prefix="kernels-"))
    atexit.register(shutil.rmtree, links, ignore_errors=True)
    for kernel in folder.glob("*.nb[ic]"):
        (links / kernel.name).symlink_to(kernel)
    return links
