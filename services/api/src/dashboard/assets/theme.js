// Dark or light: as the system has it, until the button says otherwise. Runs before the page is painted.
"use strict";
(() => {
  const root = document.documentElement;
  const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const set = (theme) => theme ? root.setAttribute("data-theme", theme) : root.removeAttribute("data-theme");
  set(kept());
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
      const next = (root.getAttribute("data-theme") || system) === "dark" ? "light" : "dark";
      set(next === system ? null : next);
      try {
        if (next === system) localStorage.removeItem("theme"); else localStorage.setItem("theme", next);
      } catch { /* Not kept, then. */ }
      dispatchEvent(new Event("theme"));
    });
  });
})();
