"""A simulated world: pictures, posts about them in true export formats, hosts, annotators, and the truth.

No photo set may be shipped and tests must know what is true, so worlds are made from a seed, of any
size. Whatever is measured on one is called simulated wherever it is shown. May import: schemas, and
nothing else of `curate`, so that the world knows nothing of the code that it tests.
"""

from curate.simulated.reddit_export import write_reddit_dump
from curate.simulated.server import serve_media
from curate.simulated.spec import Annotator, World, WorldSpec
from curate.simulated.world import build_world

__all__ = ["Annotator", "World", "WorldSpec", "build_world", "serve_media", "write_reddit_dump"]
