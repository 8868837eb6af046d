// The pages work without this script. It keeps lists current and buttons from being
// pressed twice.
"use strict";

// A form is sent once.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  setTimeout(() => form.querySelectorAll("button").forEach((b) => { b.disabled = true; }));
});
// A page that comes back from the history can be used again.
addEventListener("pageshow", () => document.querySelectorAll("button[disabled]").forEach((b) => { b.disabled = false; }));

// follow calls each when the server says that something changed. The browser connects
// again by itself.
function follow(url, events) {
  const source = new EventSource(url);
  for (const [name, handle] of Object.entries(events)) source.addEventListener(name, handle);
  addEventListener("pagehide", () => source.close());
  return source;
}

// A list that follows is loaded again, at most once a second, and not while a person
// uses it by keyboard.
const list = document.querySelector("[data-follow]");
if (list) {
  let waiting = false;
  const reload = async () => {
    if (waiting) return;
    waiting = true;
    await new Promise((done) => setTimeout(done, 1000));
    waiting = false;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected || !answer.ok) { location.reload(); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(list.id);
    if (!fresh || fresh.innerHTML === list.innerHTML) return;
    const focused = document.activeElement && list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    list.replaceChildren(...fresh.childNodes);
    if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  };
  follow(list.dataset.follow, { changed: () => reload().catch(() => {}) });
}
