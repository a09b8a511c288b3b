"""All targets by name."""

from fuzz.target import Target
from fuzz.targets import bot, bundles, chain, files, screening, service, sources

_MODULES = (chain, sources, bot, files, bundles, service, screening)
TARGETS: dict[str, Target] = {
    target.name: target for module in _MODULES for target in module.TARGETS
}
