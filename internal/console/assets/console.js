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

// A list that follows is loaded again, at most once a second. What has the keyboard keeps it.
const list = document.querySelector("[data-follow]");
if (list) {
  let running = false, again = false;
  const load = async () => {
    const answer = await fetch(location.href, { headers: { Accept: "text/html", "Vpcep-Refresh": "1" } });
    if (answer.redirected || !answer.ok) { location.reload(); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(list.id);
    if (!fresh || fresh.innerHTML === list.innerHTML) return;
    const focused = document.activeElement && list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    list.replaceChildren(...fresh.childNodes);
    if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  };
  const reload = async () => {
    again = true;
    if (running) return;
    running = true;
    while (again) {
      await new Promise((done) => setTimeout(done, 1000));
      again = false;
      await load().catch(() => { again = true; }); // such as while the network is away
    }
    running = false;
  };
  follow(list.dataset.follow, { changed: reload });
}

// The live page: new rows come to the top, once each. What arrives between two frames
// is added together.
const live = document.getElementById("live");
if (live) {
  const light = document.getElementById("light"), pause = document.getElementById("pause");
  const kept = 500;
  let rows = [], drawing = false, paused = false;
  const draw = () => {
    drawing = false;
    if (paused) return;
    const fresh = document.createElement("tbody");
    fresh.innerHTML = rows.splice(0).reverse().join(""); // made by the server, which escapes
    for (const row of [...fresh.rows].reverse()) {
      if (document.getElementById(row.id)) continue;
      row.classList.add("new");
      live.prepend(row);
    }
    while (live.rows.length > kept) live.deleteRow(-1);
  };
  const ask = () => { if (!drawing && !paused) { drawing = true; requestAnimationFrame(draw); } };
  const show = (text) => { light.textContent = light.dataset[paused ? "paused" : text]; light.dataset.state = text; };
  const source = follow(live.dataset.stream, {
    row: (event) => { rows.push(event.data); if (rows.length > kept) rows.shift(); ask(); },
    gap: () => location.reload(),
  });
  source.onopen = () => show("open");
  source.onerror = () => {
    show("closed");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000); // such as after sign-out
  };
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    show(source.readyState === EventSource.OPEN ? "open" : "closed");
    ask();
  });
}
