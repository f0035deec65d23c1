"""The platforms whose own API can be asked. To add one: write its module, add its line here.

Live modules may import `curate.live.asking`, `curate.live.contract`, `curate.collectors.reading` and
schemas. What they capture is read by the collector of the same name, like any other export.
"""

from curate.live import bluesky, mastodon, reddit
from curate.live.contract import Live

LIVE: dict[str, Live] = {
    "bluesky": bluesky,
    "mastodon": mastodon,
    "reddit": reddit,
}
