"""Reddit by PRAW, with the user's own client: the listings and the search of subreddits.

API: https://www.reddit.com/dev/api and https://praw.readthedocs.io. PRAW logs in, keeps to the rate
limit and asks for `raw_json`; the bytes are kept from under it, since what it returns is read
already. What decides:

- a listing ends after about 1000 submissions, whatever there is
  (https://praw.readthedocs.io/en/stable/getting_started/faq.html), and a search after about 250
  (https://github.com/not-an-aardvark/snoowrap/issues/162); older ones are in dumps;
- a capture that goes on walks its listing again from the top, ten answers at most: the place after
  a submission that was removed meanwhile is lost to Reddit too;
- nothing but public reading is asked for: an account that praw.ini may name is not logged in.
"""

import configparser
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import requests

from curate.collectors.reading import moment
from curate.live.asking import PASSING, Again, Asking, paged, unanswered, wait_of
from curate.live.contract import Asked, Done, Page, Record, Stopped, line_of, slug
from schemas.errors import InputError

PLATFORM = "reddit"
OPTIONS = ("subreddits", "listing", "period", "query")
SECRETS = ("REDDIT_CLIENT_ID", "REDDIT_CLIENT_SECRET")
LISTINGS = ("new", "hot", "top", "search")
PERIODS = ("hour", "day", "week", "month", "year", "all")
PAGE_SIZE = 100
"""Submissions; the most that the API gives at once."""
LISTED, FOUND = 900, 200
"""A listing, or a search, that ends after so many was cut by Reddit: it gives some less than it might."""
SITE, API = "www.reddit.com", "oauth.reddit.com"


class _Submission(msgspec.Struct):
    name: str | None = None
    created_utc: float | str | None = None


class _Thing(msgspec.Struct):
    """What tells one submission from another."""

    kind: str
    data: _Submission


class _Children(msgspec.Struct):
    children: list[msgspec.Raw]
    after: str | None = None


class _Listing(msgspec.Struct):
    """An answer."""

    data: _Children


def name(asked: Asked) -> str:
    """The listing and the subreddits, or what is searched."""
    if asked.listing not in LISTINGS:
        raise InputError(f"--listing {asked.listing} is none; expected {', '.join(LISTINGS)}")
    if asked.period not in PERIODS:
        raise InputError(f"--period {asked.period} is none; expected {', '.join(PERIODS)}")
    if (asked.listing == "search") != bool(asked.query):
        raise InputError("--query goes with --listing search, and only with it")
    if asked.since and asked.listing in ("hot", "top"):
        raise InputError(
            f"--since needs a listing by time; expected new or search, not {asked.listing}"
        )
    if not asked.subreddits and asked.listing != "search":
        raise InputError("no subreddit was named; expected --subreddit aiArt")
    return slug(*_subreddits(asked), asked.listing, asked.query or "")


def walk(asked: Asked, asking: Asking, secrets: Mapping[str, str], done: Done) -> Iterator[Record]:
    """Submissions of a listing, from its top."""
    client = _client(asking, secrets)
    met, ended = 0, False

    def ask(after: str | None) -> Page:
        nonlocal ended
        page = _page(asking, client, asked, after)
        ended = page.following is None and not _reaches(page, asked.since)
        return page

    for record in paged(asking, ask, since=asked.since):
        met += 1
        yield record
    if ended and met >= (FOUND if asked.listing == "search" else LISTED):
        most = 250 if asked.listing == "search" else 1000
        raise Stopped(
            f"Reddit gives no more than about {most} submissions, and {met} came; older ones are in dumps",
            failed=False,
        )


def _reaches(page: Page, since: datetime | None) -> bool:
    """Whether a page goes back to before `since`: then nothing that was asked for lies behind it."""
    return since is not None and any(r.time and r.time < since for r in page.records)


def tell(line: bytes) -> Record:
    """The submission that a line is."""
    try:
        thing = msgspec.json.decode(line, type=_Thing)
    except (msgspec.DecodeError, UnicodeError):
        return Record(None, None, line)
    return Record(thing.data.name, moment(thing.data.created_utc), line)


def _subreddits(asked: Asked) -> tuple[str, ...]:
    """Names without `r/`, once each."""
    parts = [part for name in asked.subreddits for part in name.split("+")]
    found = tuple(dict.fromkeys(part.strip().strip("/").removeprefix("r/") for part in parts))
    for part in found:
        if not (part.isascii() and part.replace("_", "").isalnum() and 2 <= len(part) <= 24):
            raise InputError(f"--subreddit {part!r} is no subreddit; expected a name such as aiArt")
    return found


def _client(asking: Asking, secrets: Mapping[str, str]) -> Any:
    """A PRAW client that only reads; praw.ini has what the environment has not.

    Raises:
        InputError: PRAW is not installed, or there are no credentials.
    """
    try:
        import praw
        from praw.exceptions import MissingRequiredAttributeException
    except ImportError:
        raise InputError("PRAW is not installed; pip install 'wildrf[live]'") from None
    names = {"client_id": "REDDIT_CLIENT_ID", "client_secret": "REDDIT_CLIENT_SECRET"}
    # An app without a secret is an installed one, which PRAW knows by None.
    known = {key: secrets[env] or None for key, env in names.items() if env in secrets}
    try:
        client = praw.Reddit(
            requestor_kwargs={"session": asking.session},
            user_agent=asking.policy.user_agent,
            reddit_url=asking.base(SITE),
            oauth_url=asking.base(API),
            timeout=max(1, round(asking.policy.timeout_s)),
            check_for_updates=False,
            check_for_async=False,
            **known,
        )
    except MissingRequiredAttributeException:
        raise InputError(
            "no Reddit credentials; make an app at https://www.reddit.com/prefs/apps and set "
            "REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET, or write them into praw.ini"
        ) from None
    except (configparser.Error, ValueError) as error:
        # Not what it says: that may quote a line of the file, and so a secret.
        raise InputError(f"praw.ini cannot be used ({type(error).__name__}); mend it") from None
    client.read_only = True
    return client


def _page(asking: Asking, client: Any, asked: Asked, after: str | None) -> Page:
    subreddits = "+".join(_subreddits(asked))
    path = f"r/{subreddits}/{asked.listing}" if subreddits else "search"
    params: dict[str, Any] = {"limit": PAGE_SIZE, "raw_json": 1}
    if after:
        params["after"] = after
    if asked.listing in ("top", "search"):
        params["t"] = asked.period
    if asked.listing == "search":
        params |= {"q": asked.query, "sort": "new", "type": "link"}
        params |= {"restrict_sr": 1} if subreddits else {}
    return asking.persist("Reddit", partial(_ask, asking, client, f"/{path}", params))


def _ask(asking: Asking, client: Any, path: str, params: dict[str, Any]) -> Page:
    """One answer, by PRAW; its bytes are taken from the session that PRAW was given.

    Raises:
        Again: another try may do.
        Stopped: none will.
    """
    from praw.exceptions import PRAWException
    from prawcore.exceptions import OAuthException, RequestException, ResponseException

    answers: list[requests.Response] = []
    asking.session.hooks["response"] = [lambda response, **_: answers.append(response)]
    try:
        client.request(method="GET", path=path, params=params)
        asking.heed(answers[-1].headers)  # so that a long pause is told, and bounded
        return _read(answers[-1].content)
    except RequestException as error:
        raise unanswered("Reddit", error.original_exception) from None
    except OAuthException as error:
        raise Stopped(f"Reddit gives no token: {error.error}; {CREDENTIALS}") from None
    except ResponseException as error:
        raise _explained(error.response) from None
    except PRAWException as error:
        told = " ".join(str(error).split())
        raise Stopped(f"Reddit refuses what is asked: {told}") from None
    except (ValueError, KeyError, TypeError):  # msgspec's errors, and headers that PRAW cannot read
        raise _unreadable(answers) from None


CREDENTIALS = "REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET must be those of an app of type script"


def _read(body: bytes) -> Page:
    listing = msgspec.json.decode(body, type=_Listing).data
    return Page(tuple(tell(line_of(raw)) for raw in listing.children), listing.after)


def _explained(response: requests.Response) -> Exception:
    """`Again`, or `Stopped` in words, for an answer that is no listing."""
    status = response.status_code
    if status in PASSING:
        return Again(f"answers {status}", wait_of(response.headers))
    if status == 200:
        return Again("answers something else than its API gives")
    if status == 401:
        return Stopped(f"Reddit answered 401; {CREDENTIALS}")
    if status in (302, 404):
        return Stopped(f"Reddit answered {status}; there is no such subreddit, or it is banned")
    if status == 403:
        return Stopped("Reddit answered 403; the subreddit is private, or the app is not admitted")
    return Stopped(f"Reddit answered {status}")


def _unreadable(answers: list[requests.Response]) -> Exception:
    """For an answer that PRAW, or we, stumbled over."""
    if answers and answers[-1].status_code != 200:
        return _explained(answers[-1])
    return Again("answers something else than its API gives")
