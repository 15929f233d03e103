// What the page adds to Chainlit's front end: the passage panel, the note about the model on the start
// page, names for buttons that have only a picture, spoken progress, and a clean copy of an answer.
// It never writes into nodes that the front end draws, beyond attributes and one note at the end.
"use strict";

(() => {
  const PASSAGE = /^\/passages\/[A-Za-z0-9-]+\/\d+\/\d+$/;

  // Follow the system's light or dark until the user chooses; Chainlit's setting knows only the two.
  if (!localStorage.getItem("vite-ui-theme")) localStorage.setItem("vite-ui-theme", "system");

  // --- the passage panel ---------------------------------------------------------------------

  let panel = null;
  let opener = null;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text) made.textContent = text; // never innerHTML: a document's text is text
    return made;
  }

  function closePanel() {
    if (!panel) return;
    panel.remove();
    panel = null;
    document.body.classList.remove("passage-open");
    if (opener && opener.isConnected) opener.focus();
    opener = null;
  }

  function panelFrame(title) {
    const aside = element("aside", "passage-panel");
    aside.setAttribute("role", "dialog");
    aside.setAttribute("aria-labelledby", "passage-title");
    const head = element("header");
    const heading = element("h2", "", title);
    heading.id = "passage-title";
    heading.tabIndex = -1;
    const close = element("button", "passage-close", "×");
    close.type = "button";
    close.setAttribute("aria-label", "Close the passage");
    close.addEventListener("click", closePanel);
    head.append(heading, close);
    aside.append(head);
    return aside;
  }

  function fill(aside, passage, path) {
    const facts = element("dl", "passage-facts");
    for (const [name, value] of [["Place", passage.place], ["Date", passage.date], ["Source", passage.source]]) {
      if (value) facts.append(element("dt", "", name), element("dd", "", value));
    }
    aside.append(facts, element("p", "passage-text", passage.text));
    const links = element("p", "passage-links");
    if (passage.url) {
      const original = element("a", "", "Open the document");
      original.href = passage.url;
      original.target = "_blank";
      original.rel = "noopener noreferrer";
      links.append(original);
    }
    const alone = element("a", "", "Open in a new tab");
    alone.href = path;
    alone.target = "_blank";
    alone.dataset.plain = "yes";
    links.append(alone);
    aside.append(links);
  }

  async function openPassage(link) {
    const path = new URL(link.href).pathname;
    const answer = await fetch(path, { headers: { accept: "application/json" } });
    const passage = answer.ok ? await answer.json() : { number: 0, title: "Passage", text: "This passage cannot be shown." };
    closePanel();
    panel = panelFrame(passage.number ? `[${passage.number}] ${passage.title}` : passage.title);
    fill(panel, passage, path);
    opener = link;
    document.body.append(panel);
    document.body.classList.add("passage-open");
    panel.querySelector("#passage-title").focus();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || link.dataset.plain) return;
    const url = new URL(link.href, location.href);
    if (url.origin !== location.origin || !PASSAGE.test(url.pathname)) return;
    event.preventDefault();
    event.stopPropagation();
    openPassage(link);
  }, true);

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel) {
      event.stopPropagation();
      closePanel();
    }
  }, true);

  // --- a clean copy: no addresses of passages, no escapes --------------------------------------

  const plain = (text) =>
    text.replace(/\[(\d+)\]\(\/passages\/[^)\s]*\)/g, "[$1]").replace(/\\([\\`*_{}[\]()#+\-.!|<>~$:&])/g, "$1");

  if (navigator.clipboard && navigator.clipboard.write) {
    const write = navigator.clipboard.write.bind(navigator.clipboard);
    navigator.clipboard.write = async (items) => {
      const texts = items.filter((item) => item.types.includes("text/plain"));
      if (!texts.length) return write(items);
      const text = plain(await (await texts[0].getType("text/plain")).text());
      return navigator.clipboard.writeText(text);
    };
  }

  // --- names, the note, spoken progress ---------------------------------------------------------

  const NAMES = {
    "#new-chat-button": "New conversation",
    "#search-chats-button": "Search conversations",
    "#chat-submit": "Send",
    "#stop-button": "Stop the answer",
    "#chat-input": "Ask a question",
    "#edit-chat-input": "Edit the question",
    "#thread-options": "Rename or delete",
    "#theme-toggle": "Light or dark",
    "#sidebar-trigger-button": "Conversations",
    ".edit-message": "Edit the question",
    ".positive-feedback-off": "Helpful",
    ".positive-feedback-on": "Helpful (chosen)",
    ".negative-feedback-off": "Not helpful",
    ".negative-feedback-on": "Not helpful (chosen)",
    "button:has(> .lucide-copy)": "Copy the answer",
    "button:has(> .lucide-refresh-cw)": "Regenerate the answer",
  };

  const note = document.querySelector('meta[name="openchatkit-note"]');
  const status = element("div", "spoken-status");
  status.setAttribute("role", "status");
  let answering = false;

  function welcome() {
    const screen = document.getElementById("welcome-screen");
    if (!screen || !note || screen.querySelector(".model-note")) return;
    const line = element("p", "model-note");
    note.content.split("`").forEach((part, place) => line.append(element(place % 2 ? "code" : "span", "", part)));
    screen.append(line);
  }

  function look() {
    for (const [selector, name] of Object.entries(NAMES)) {
      // The front end reuses a node for another button, so a name can be out of date.
      for (const node of document.querySelectorAll(selector)) {
        if (node.getAttribute("aria-label") !== name) node.setAttribute("aria-label", name);
      }
    }
    for (const menu of document.querySelectorAll("#thread-options:not([tabindex])")) {
      menu.tabIndex = 0; // drawn as a box, which no key reaches
      menu.setAttribute("role", "button");
    }
    const busy = !!document.getElementById("stop-button");
    if (busy !== answering) {
      answering = busy;
      status.textContent = busy ? "Answering" : "The answer is complete";
    }
    if (panel && opener && !opener.isConnected) closePanel();
    welcome();
  }

  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      look();
    });
  }).observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ["id", "class"] });
  document.body.append(status);
  look();
})();
