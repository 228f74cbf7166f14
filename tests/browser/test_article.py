"""The article's policies, as they were printed: its `*` beside names, credentials on, DELETE not listed."""

from __future__ import annotations

import pytest

from tests.browser.chrome import Browser
from tests.browser.stage import ARTICLE, ARTICLE_PAGE, FRIEND, Stage
from tests.browser.talking import BEFORE_THE_END, BLOCKED, OVER_SSE, check_before_the_end, check_over_sse

pytestmark = pytest.mark.peers

CREDENTIALS = [
    pytest.param("include", {"Authorization": "Bearer of-the-page"}, id="credentials"),
    pytest.param("same-origin", {}, id="none", marks=pytest.mark.long),
]


@pytest.mark.requirement("AG-32", "AG-38", "AG-41")
@pytest.mark.parametrize(("credentials", "headers"), CREDENTIALS)
def test_the_page_of_the_article_works(
    staged: Stage, browser: Browser, credentials: str, headers: dict[str, str]
) -> None:
    """Everything works but DELETE, which the article does not list: Chromium refuses it, the log says what to add."""
    browser.open(ARTICLE_PAGE)
    talk = browser.talk(ARTICLE, f"{BEFORE_THE_END} end", credentials=credentials, headers=headers)

    check_before_the_end(talk)
    assert talk.done["seen"]["result"]["authorization"] == "Bearer fake"
    assert "error" in talk.done["end"]
    (complaint,) = [complaint for complaint in talk.complaints if BLOCKED in complaint]
    assert "Method DELETE is not allowed by Access-Control-Allow-Methods" in complaint
    told = staged.log("article")[-1]
    assert "is not granted the method 'DELETE'" in told
    assert "cors.allowMethods: [DELETE]" in told


@pytest.mark.requirement("AG-32")
@pytest.mark.parametrize(("credentials", "headers"), CREDENTIALS)
def test_the_page_of_the_article_over_sse(browser: Browser, credentials: str, headers: dict[str, str]) -> None:
    """The older transport needs GET and POST only, which the article lists."""
    browser.open(ARTICLE_PAGE)
    talk = browser.talk(f"{ARTICLE}/sse", OVER_SSE, credentials=credentials, headers=headers, transport="sse")

    check_over_sse(talk)


@pytest.mark.requirement("AG-31", "AG-41")
def test_another_page_is_refused_by_csrf_and_can_read_it(staged: Stage, browser: Browser) -> None:
    """CORS lets every page in, CSRF only the one that it names; the page can read that, and the operator why."""
    browser.open(FRIEND)
    talk = browser.talk(ARTICLE, "connect tools")

    assert "error" in talk.done["tools"]
    assert [made.status for made in talk.exchanges] == [403]
    assert '"class":"denied"' in talk.exchanges[0].text
    refused = staged.refusals("article")[-1]
    assert "refused by csrf" in refused
    assert FRIEND in refused
    assert "csrf.additionalOrigins" in refused
