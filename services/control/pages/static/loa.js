// Keeps a page of live facts fresh: fetches it again every few seconds and swaps its main part.
// Nothing happens while the page is hidden, while somebody is using something in it, or when the answer is no page.
"use strict";
const PERIOD_MS = 10000;

async function refresh() {
  const main = document.getElementById("main");
  if (document.hidden || (main.contains(document.activeElement) && document.activeElement !== main)) return;
  const response = await fetch(location.href, { credentials: "same-origin", redirect: "manual" });
  if (!response.ok) {
    if (response.type === "opaqueredirect") location.reload(); // the session is over
    return;
  }
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("main");
  if (fresh) main.replaceChildren(...fresh.childNodes);
}

setInterval(() => refresh().catch(() => {}), PERIOD_MS);
