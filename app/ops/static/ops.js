// Keeps the figures of a page fresh; without it everything works, but for that.
(() => {
  "use strict";
  const EVERY = 30_000, LONGEST = 15 * 60_000;
  const line = document.querySelector("[data-fresh]");
  if (!line || !document.querySelector("[data-live]")) return;
  const text = line.querySelector("span"), go = line.querySelector("button");
  let asOf = line.dataset.fresh, began = Date.now(), asking = false;

  const say = (words, offer) => {
    text.textContent = words;
    line.classList.toggle("old", Boolean(offer));
    go.hidden = !offer;
    go.textContent = offer || "";
  };
  const busy = () => {
    const at = document.activeElement;
    return Boolean(document.querySelector("details[open]")) || Boolean(at && at.matches("input, select"));
  };
  const show = (page) => {
    const open = new Set([...document.querySelectorAll("details[open]")].map((each) => each.id));
    for (const region of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(region.id);
      if (!fresh || fresh.innerHTML === region.innerHTML) continue;
      for (const each of fresh.querySelectorAll("details")) each.open = open.has(each.id);
      const focused = region.contains(document.activeElement) && document.activeElement.id;
      region.className = fresh.className;
      region.replaceChildren(...fresh.childNodes);
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
    document.title = page.title;
    asOf = page.querySelector("[data-fresh]")?.dataset.fresh || asOf;
    say(`As of ${asOf}`);
  };
  const refresh = async () => {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(15_000) });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      say(`Not refreshed since ${asOf}`, "Try now");
    } finally {
      asking = false;
    }
  };
  const tick = () => {
    if (document.hidden) return;
    if (Date.now() - began >= LONGEST) say(`Not refreshed since ${asOf}`, "Tap to go on");
    else if (busy()) say(`Paused since ${asOf}`, "Refresh");
    else refresh();
  };
  go.addEventListener("click", () => { began = Date.now(); refresh(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { began = Date.now(); tick(); } });
  setInterval(tick, EVERY);
})();
