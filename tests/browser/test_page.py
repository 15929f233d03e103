"""The chat page in a real Chromium. No request may leave 127.0.0.1, no error reach the console."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from tests.browser.conftest import Server, Watch

pytestmark = pytest.mark.browser


def ask(page: Page, text: str) -> None:
    page.fill("#chat-input", text)
    page.wait_for_selector("#chat-submit:not([disabled])")
    page.press("#chat-input", "Enter")


def answers(page: Page) -> Locator:
    return page.locator(".ai-message .message-content")


def answer_to(page: Page, text: str) -> Locator:
    """Ask, wait until the answer is complete, return it."""
    ask(page, text)
    expect(page.get_by_label("Regenerate the answer")).to_be_visible()
    return answers(page).last


def words_of(answer: Locator) -> list[str]:
    return re.findall(r"word\d+", answer.inner_text())


def test_start_page_says_what_it_is(watch: Watch) -> None:
    page = watch.page
    expect(page).to_have_title("OpenChatKit")
    expect(page.locator("#starters button")).to_have_count(3)
    expect(page.locator(".model-note")).to_contain_text("Small demonstration model")
    expect(page.locator(".model-note code")).to_contain_text("ock serve --model")
    assert page.locator("#welcome-screen img").get_attribute("src", timeout=2000)


def test_starter_asks(watch: Watch) -> None:
    page = watch.page
    page.locator("#starters button").first.click()
    expect(answers(page).last).to_contain_text("EUR 412 million")


def test_stream_grows_and_markdown_is_drawn(watch: Watch) -> None:
    page = watch.page
    ask(page, "a long one")
    expect(page.get_by_label("Stop the answer")).to_be_visible()
    expect(answers(page).last).to_contain_text("word2")
    early = len(words_of(answers(page).last))
    expect(answers(page).last).to_contain_text(f"word{early + 10}")
    page.get_by_label("Stop the answer").click()
    expect(page.get_by_label("Regenerate the answer")).to_be_visible()

    listed = answer_to(page, "a list please")
    expect(listed.locator("li")).to_have_count(2)
    expect(listed.locator("table td").first).to_have_text("Nordwind")
    expect(listed).to_contain_text("print('a:b')")


def test_citation_opens_the_passage(watch: Watch) -> None:
    page = watch.page
    answer = answer_to(page, "what was the revenue?")
    expect(answer).to_contain_text("USD:EUR")
    expect(answer).to_contain_text("Section 2, Revenue")
    mark = answer.locator("a[href^='/passages/']").first
    mark.click()
    panel = page.get_by_role("dialog", name="[1] Nordwind AG, Annual report 2025")
    expect(panel).to_contain_text("<b>Not bold</b> & plain.")
    expect(panel).to_contain_text("2026-03-14")
    expect(panel).to_contain_text("Section 2, Revenue")
    expect(panel.get_by_text("Open the document")).to_have_attribute(
        "href", "https://example.com/nordwind-2025.html"
    )
    expect(panel.get_by_role("heading")).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(mark).to_be_focused()
    address = mark.get_attribute("href")
    assert address is not None
    page.goto(address)
    expect(page.get_by_role("main")).to_contain_text("<b>Not bold</b> & plain.")


def test_stop_ends_the_computation(watch: Watch, server: Server) -> None:
    page = watch.page
    ask(page, "a long one to stop")
    expect(answers(page).last).to_contain_text("word5")
    page.get_by_label("Stop the answer").click()
    expect(answers(page).last).to_contain_text("Stopped.")
    seen = words_of(answers(page).last)
    assert 5 <= len(seen) < 200
    session = page.url.rsplit("/", 1)[1]
    assert session in get(server, "/cancelled")[1]
    page.reload()
    expect(answers(page).last).to_contain_text("Stopped.")
    assert words_of(answers(page).last) == seen


def test_closing_the_page_stops_the_answer(watch: Watch, server: Server) -> None:
    page = watch.page
    ask(page, "a long one to leave")
    expect(answers(page).last).to_contain_text("word3")
    page.wait_for_url("**/thread/*")
    session = page.url.rsplit("/", 1)[1]
    page.reload()
    expect(answers(page).last).to_contain_text("Stopped.")
    assert session in get(server, "/cancelled")[1]


def test_a_lost_connection_does_not_stop_the_answer(watch: Watch) -> None:
    page = watch.page
    lines: list[WebSocketRoute] = []

    def carry(line: WebSocketRoute) -> None:
        line.connect_to_server()
        lines.append(line)

    page.route_web_socket(re.compile("/ws/socket.io/"), carry)
    page.reload()
    ask(page, "a long one through a bad line")
    expect(answers(page).last).to_contain_text("word3")
    lines[-1].close(code=1001)
    seen = words_of(answers(page).last)
    expect(answers(page).last).to_contain_text(f"word{len(seen) + 60}")
    words = words_of(answers(page).last)
    assert words == [f"word{number}" for number in range(len(words))]  # nothing is missing
    assert len(lines) == 2
    page.get_by_label("Stop the answer").click()
    expect(answers(page).last).to_contain_text("Stopped.")


def test_edit_replaces_the_turn_and_all_later_ones(watch: Watch) -> None:
    page = watch.page
    answer_to(page, "first question")
    ask(page, "second question")
    expect(answers(page)).to_have_count(2)
    expect(page.get_by_label("Regenerate the answer")).to_be_visible()
    page.get_by_label("Edit the question").first.focus()
    page.keyboard.press("Enter")
    page.fill("#edit-chat-input", "first question, edited")
    page.click(".confirm-edit")
    expect(answers(page)).to_have_count(1)
    expect(answers(page).last).to_contain_text("You asked: first question, edited.")
    expect(page.get_by_label("Regenerate the answer")).to_be_visible()
    page.reload()
    expect(answers(page)).to_have_count(1)
    expect(page.locator("[data-step-type=user_message]")).to_have_text("first question, edited")


def test_an_edited_answer_can_be_stopped(watch: Watch) -> None:
    page = watch.page
    answer_to(page, "short")
    page.get_by_label("Edit the question").first.focus()
    page.keyboard.press("Enter")
    page.fill("#edit-chat-input", "now a long one")
    page.click(".confirm-edit")
    expect(answers(page).last).to_contain_text("word3")
    page.get_by_label("Stop the answer").click()
    expect(answers(page).last).to_contain_text("Stopped.")


def test_regenerate_takes_the_place(watch: Watch) -> None:
    page = watch.page
    first = answer_to(page, "tell me").inner_text()
    page.get_by_label("Regenerate the answer").click()
    expect(answers(page).last).not_to_have_text(first)
    expect(answers(page).last).to_contain_text("Attempt")
    expect(answers(page)).to_have_count(1)
    page.wait_for_selector("#chat-submit")
    second = answers(page).last.inner_text()
    page.reload()
    expect(answers(page)).to_have_count(1)
    expect(answers(page).last).to_have_text(second)
    page.get_by_label("Regenerate the answer").click()
    expect(answers(page).last).not_to_have_text(second)
    expect(answers(page)).to_have_count(1)


def test_reload_goes_on_with_the_conversation(watch: Watch) -> None:
    page = watch.page
    answer_to(page, "what was the revenue?")
    page.wait_for_url("**/thread/*")
    page.reload()
    expect(answers(page).last).to_contain_text("EUR 412 million")
    answers(page).last.locator("a[href^='/passages/']").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("Revenue rose")
    page.keyboard.press("Escape")
    ask(page, "and then?")
    expect(answers(page).last).to_contain_text("You asked: and then?")
    expect(page.locator("[data-step-type=user_message]")).to_have_count(2)


def test_history_finds_renames_and_deletes(watch: Watch) -> None:
    page = watch.page
    answer_to(page, "zebra crossing")
    with page.expect_websocket():  # the front end renews its connection for a new conversation
        page.get_by_label("New conversation").click()
    expect(page.locator("#welcome-screen")).to_be_visible()
    answer_to(page, "giraffe house")
    zebra = page.locator("#thread-history li", has_text="zebra crossing")
    expect(zebra).to_be_visible()

    page.keyboard.press("Control+k")
    page.get_by_placeholder("Search the titles").fill("zebra")
    expect(page.get_by_role("option")).to_have_count(1)
    page.get_by_role("option").click()
    expect(answers(page).last).to_contain_text("You asked: zebra crossing.")

    zebra.hover()
    zebra.locator("#thread-options").click()
    page.click("#rename-thread")
    page.get_by_role("textbox", name="Name").fill("stripes")
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    stripes = page.locator("#thread-history li", has_text="stripes")
    expect(stripes).to_be_visible()

    address = page.url
    other = page.context.new_page()
    other.goto(address)
    expect(answers(other).last).to_contain_text("zebra")
    stripes.hover()
    stripes.locator("#thread-options").click()
    page.click("#delete-thread")
    page.get_by_role("alertdialog").get_by_role("button", name="Confirm").click()
    expect(stripes).to_have_count(0)
    expect(page.locator("#welcome-screen")).to_be_visible()
    expect(other.locator("#welcome-screen")).to_be_visible()
    other.close()
    page.goto(address)
    expect(page.locator("#welcome-screen")).to_be_visible()


def test_feedback_is_kept(watch: Watch) -> None:
    page = watch.page
    answer_to(page, "rate me")
    page.get_by_label("Helpful", exact=True).click()
    page.click("#submit-feedback")
    expect(page.locator(".positive-feedback-on")).to_be_visible()
    page.reload()
    expect(page.locator(".positive-feedback-on")).to_be_visible()
    page.locator(".positive-feedback-on").click()
    expect(page.locator(".positive-feedback-off")).to_be_visible()


def test_copy_gives_plain_text(watch: Watch) -> None:
    page = watch.page
    answer_to(page, "what was the revenue?")
    page.get_by_label("Copy the answer").click()
    page.wait_for_selector(".lucide-check")
    copied: str = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(
        "Nordwind AG's revenue was EUR 412 million in 2025 [1], and margins held [1][2]. The pair is USD:EUR."
    )
    assert "/passages/" not in copied
    assert "[1] Nordwind AG, Annual report 2025 · Section 2, Revenue · 2026-03-14" in copied


def test_moderation_says_that_it_overrode(watch: Watch) -> None:
    page = watch.page
    answer_to(page, "moderated please")
    expect(page.locator(".ai-message").first).to_contain_text("Moderation stopped this question")
    expect(page.locator(".ai-message").first).to_contain_text("needs caution")
    expect(answers(page).last).to_have_text("I can't help with that.")
    page.reload()
    expect(page.locator(".ai-message").first).to_contain_text("Moderation stopped this question")


def test_an_error_is_shown_and_the_page_goes_on(watch: Watch) -> None:
    page = watch.page
    ask(page, "fail now")
    expect(answers(page).last).to_contain_text("the model could not answer (engine_failed)")
    expect(answer_to(page, "and again")).to_contain_text("You asked: and again.")


def test_an_answer_fetches_nothing_and_has_no_html(watch: Watch) -> None:
    page = watch.page
    answer = answer_to(page, "a picture")
    expect(answer).to_contain_text("<img src=")
    assert answer.locator("img").count() == 0
    ask(page, "<b>bold?</b> **stars** [1](https://evil.example/)")
    mine = page.locator("[data-step-type=user_message]").last
    expect(mine).to_contain_text("<b>bold?</b> **stars** [1](https://evil.example/)")


def test_dark_and_phone(watch: Watch) -> None:
    page = watch.page
    page.get_by_label("Light or dark").click()
    page.get_by_role("menuitem", name="Dark").click()
    expect(page.locator("html")).to_have_class(re.compile("dark"))
    page.set_viewport_size({"width": 390, "height": 844})
    answer_to(page, "what was the revenue?").locator("a[href^='/passages/']").first.click()
    panel = page.get_by_role("dialog")
    expect(panel).to_be_in_viewport()
    box = panel.bounding_box()
    assert box is not None
    assert box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_every_visible_button_has_a_name(watch: Watch) -> None:
    page = watch.page
    answer_to(page, "what was the revenue?")
    nameless = page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent && !b.ariaLabel"
        " && !b.innerText.trim() && !b.querySelector('.sr-only')).map(b => b.outerHTML.slice(0, 160))"
    )
    assert nameless == []


def test_nothing_is_written_where_it_is_started_nor_logged(watch: Watch, server: Server) -> None:
    canary = "kanarienvogel-4711"
    answer_to(watch.page, canary)
    watch.page.get_by_label("Not helpful", exact=True).click()
    watch.page.get_by_role("dialog").locator("textarea").fill(canary)
    watch.page.click("#submit-feedback")
    expect(watch.page.locator(".negative-feedback-on")).to_be_visible()
    time.sleep(0.2)
    assert canary not in server.log.read_text()
    assert list(server.folder.iterdir()) == []


def get(server: Server, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(
        server.address + path, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/unknown",
        "/login",
        "/project/file/x?session_id=y",
        "/mcp",
        "/copilot/index.js",
        "/passages/none/1/1",
    ],
)
def test_what_the_page_does_not_use_is_not_there(server: Server, path: str) -> None:
    assert get(server, path)[0] == 404


def test_own_routes_come_first_and_other_sites_are_refused(server: Server) -> None:
    assert get(server, "/ping")[0] == 200
    assert get(server, "/", Origin="https://evil.example")[0] == 403
    assert get(server, "/user", Host="evil.example")[0] == 403
    page: Any = urllib.request.urlopen(server.address + "/", timeout=10)
    with page:
        policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
