"""All targets by name."""

from fuzz.target import Target
from fuzz.targets import bot, chain, files, sources

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (*chain.TARGETS, *sources.TARGETS, *bot.TARGETS, *files.TARGETS)
}
