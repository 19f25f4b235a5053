// Keeps a page true: sections as the member sends them, and times as they pass.
"use strict";
const live = (() => {
  const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
  const handlers = new Map();
  let source = null;

  function long(milliseconds) {
    const s = Math.max(0, milliseconds);
    if (s < MINUTE) return `${Math.floor(s / SECOND)} s`;
    if (s < HOUR) return `${Math.floor(s / MINUTE)} min ${Math.floor(s % MINUTE / SECOND)} s`;
    if (s < DAY) return `${Math.floor(s / HOUR)} h ${Math.floor(s % HOUR / MINUTE)} min`;
    return `${Math.floor(s / DAY)} d ${Math.floor(s % DAY / HOUR)} h`;
  }

  function relative(kind, at, now) {
    if (kind === "until") return at > now ? `in ${long(at - now)}` : "now";
    return kind === "ago" ? `${long(now - at)} ago` : long(now - at);
  }

  function times(root) {
    const now = Date.now();
    for (const time of root.querySelectorAll("time[data-relative]")) {
      const text = relative(time.dataset.relative, Date.parse(time.dateTime), now);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  function replace({ id, html }) {
    const place = document.querySelector(`[data-section="${id}"]`);
    if (!place) return;
    // What a person has opened or is at stays so.
    const open = [...place.querySelectorAll("details[open][data-key]")].map((it) => it.dataset.key);
    const links = () => [...place.querySelectorAll("a, button, summary")];
    const at = links().indexOf(document.activeElement);
    const scrolled = [...place.querySelectorAll(".scroll")].map((it) => it.scrollLeft);
    place.innerHTML = html;
    for (const key of open) place.querySelector(`details[data-key="${CSS.escape(key)}"]`)?.setAttribute("open", "");
    if (at >= 0) links()[at]?.focus({ preventScroll: true });
    place.querySelectorAll(".scroll").forEach((it, place) => { it.scrollLeft = scrolled[place] || 0; });
    times(place);
  }

  function connect() {
    const url = document.body.dataset.live;
    if (!url || source) return;
    source = new EventSource(url);
    source.addEventListener("open", () => document.body.classList.remove("cut-off"));
    source.addEventListener("error", () => {
      document.body.classList.add("cut-off");
      // Refused for good, as by a member that has no such page any more; else the browser tries again itself.
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(connect, 3 * SECOND); }
    });
    for (const [name, handler] of handlers) {
      source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
    }
  }

  handlers.set("section", replace);
  addEventListener("DOMContentLoaded", () => { times(document); connect(); });
  setInterval(() => { if (!document.hidden) times(document); }, SECOND);
  // A browser opens few connections to one server: pages that nobody sees leave theirs to the others.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); source = null; } else { times(document); connect(); }
  });

  return { on: (name, handler) => handlers.set(name, handler), long };
})();
