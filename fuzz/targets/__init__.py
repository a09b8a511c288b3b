"""All targets by name."""

from fuzz.target import Target
from fuzz.targets import bot, bundles, files, guard, screening, service, sources

_MODULES = (sources, bot, files, bundles, service, screening, guard)
TARGETS: dict[str, Target] = {
    target.name: target for module in _MODULES for target in module.TARGETS
}
