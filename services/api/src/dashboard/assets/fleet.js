// The fleet's page: fetches every row once, follows the changes, and shows what the filters leave of them.
"use strict";
(() => {
  const LISTED_MAX = 100, RESET_EVERY = 2000;
  const element = (id) => document.getElementById(id);
  const search = element("search"), grouping = element("group"), pointed = element("pointed");
  const hint = pointed.textContent;
  const nodes = new Map();
  let states = [], state = new URLSearchParams(location.search).get("state") || "";
  let loaded = false, ordered = false, waiting = [], painted = false, resetAt = 0;

  const map = new NodeMap(element("cells"), {
    point: (node) => { pointed.textContent = node ? described(node) : hint; },
    open: (node, event) => {
      const url = `/nodes/${node.id}`;
      if (event.ctrlKey || event.metaKey) open(url, "_blank"); else location.assign(url);
    },
  });

  function described(node) {
    const parts = [node.label, `${states[node.state].name} for ${live.long(Date.now() - node.since)}`];
    if (node.what) parts.push(`waits for ${node.what}`);
    if (node.conductor) parts.push(`conductor ${node.conductor}`);
    if (node.maintenance) parts.push("in maintenance");
    return parts.join(" · ");
  }

  function take([id, name, version, place, since, group, cls, conductor, flags, what, waitSince, until]) {
    const known = nodes.get(id);
    // A row that was fetched may be older than one that was sent meanwhile.
    if (known && known.version > version) return;
    if (!known || known.name !== name) ordered = false;
    nodes.set(id, {
      id, name, version, state: place, since, group, class: cls, conductor, what, waitSince, until,
      label: name || id, phase: states[place].phase, maintenance: flags & 1, error: flags & 2,
      sought: `${name.toLowerCase()} ${id}`,
    });
  }

  function change({ rows, gone }) {
    for (const row of rows) take(row);
    for (const id of gone) nodes.delete(id);
    soon();
  }

  async function load() {
    resetAt = Date.now();
    const answer = await fetch("/fleet.json");
    if (!answer.ok) throw new Error(`/fleet.json: ${answer.status}`);
    const fleet = await answer.json();
    states = fleet.states;
    const there = new Set(fleet.rows.map((row) => row[0]));
    for (const id of nodes.keys()) if (!there.has(id)) nodes.delete(id);
    for (const row of fleet.rows) {
      // Not what changed is new here, but who owns it.
      const known = nodes.get(row[0]);
      if (known && known.version === row[2]) nodes.delete(row[0]);
      take(row);
    }
    loaded = true;
    for (const missed of waiting.splice(0)) change(missed);
    show();
  }

  // The ring moved, or too much happened to be told.
  function reset() {
    const pause = resetAt + RESET_EVERY - Date.now();
    if (pause <= 0) load().catch(failed);
    else if (!reset.planned) reset.planned = setTimeout(() => { reset.planned = 0; load().catch(failed); }, pause);
  }

  function failed(error) {
    element("listed").textContent = `The fleet cannot be fetched (${error.message}); trying again`;
    setTimeout(() => load().catch(failed), 3000);
  }

  function soon() {
    if (painted || !loaded) return;
    painted = true;
    requestAnimationFrame(() => { painted = false; show(); });
  }

  const collator = new Intl.Collator(undefined, { numeric: true });

  // A node keeps its place on the map for as long as no node comes or goes.
  function order() {
    const all = [...nodes.values()].sort((a, b) => collator.compare(a.label, b.label));
    nodes.clear();
    for (const node of all) nodes.set(node.id, node);
    ordered = true;
  }

  function show() {
    const begun = performance.now(), now = Date.now();
    if (!ordered) order();
    const text = search.value.trim().toLowerCase();
    const counts = new Array(states.length).fill(0);
    const groups = new Map(), found = [];
    for (const node of nodes.values()) {
      counts[node.state]++;
      node.late = node.until > 0 && (now - node.waitSince) * 2 > node.until - node.waitSince;
      const fits = (!text || node.sought.includes(text)) && (!state || states[node.state].name === state);
      node.faded = !fits;
      if (fits) found.push(node);
      const name = grouping.value ? node[grouping.value] || "none" : "";
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(node);
    }
    element("map").hidden = nodes.size === 0;
    map.show([...groups].sort(([a], [b]) => collator.compare(a, b))
      .map(([name, members]) => ({ name, nodes: members })));
    chips(counts);
    list(found);
    // For whoever measures: how long it takes to show a change.
    element("map").dataset.shown = String(nodes.size);
    element("map").dataset.milliseconds = (performance.now() - begun).toFixed(1);
  }

  function chips(counts) {
    for (const chip of element("states").children) {
      const name = chip.dataset.state;
      const count = name ? counts[states.findIndex((known) => known.name === name)] : nodes.size;
      chip.querySelector("b").textContent = count.toLocaleString("en").replaceAll(",", "\u202f");
      chip.hidden = count === 0 && name !== state && name !== "";
      if (name === state) chip.setAttribute("aria-current", "true"); else chip.removeAttribute("aria-current");
    }
  }

  function list(found) {
    const lines = found.slice(0, LISTED_MAX).map((node) => {
      const line = document.createElement("tr");
      const cell = (content, name) => {
        const cell = line.insertCell();
        if (name) cell.className = name;
        cell.append(content);
      };
      const link = document.createElement("a");
      link.href = `/nodes/${node.id}`;
      link.textContent = node.label;
      cell(link);
      const chip = document.createElement("span"), mark = document.createElement("span");
      chip.className = `chip ${node.phase}`;
      mark.className = "mark";
      mark.ariaHidden = "true";
      mark.textContent = states[node.state].mark;
      chip.append(mark, states[node.state].name);
      cell(chip);
      if (node.maintenance) {
        const chip = document.createElement("span");
        chip.className = "chip";
        chip.textContent = "maintenance";
        line.lastChild.append(" ", chip);
      }
      const since = document.createElement("time");
      since.dateTime = new Date(node.since).toISOString();
      since.title = since.dateTime;
      since.dataset.relative = "for";
      since.textContent = live.long(Date.now() - node.since);
      cell(since, "right");
      for (const text of [node.what, node.group, node.class, node.conductor]) cell(text);
      return line;
    });
    element("list").tBodies[0].replaceChildren(...lines);
    if (nodes.size) {
      element("listed").textContent = found.length > LISTED_MAX
        ? `The first ${LISTED_MAX} of ${found.length} nodes` : `${found.length} of ${nodes.size} nodes`;
    }
  }

  element("grouping").hidden = false;
  search.addEventListener("input", soon);
  search.form.addEventListener("submit", (event) => event.preventDefault());
  grouping.addEventListener("change", soon);
  element("states").addEventListener("click", (event) => {
    const chip = event.target.closest("a.state");
    if (!chip || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    state = chip.dataset.state === state ? "" : chip.dataset.state;
    history.replaceState(null, "", state ? `/?state=${encodeURIComponent(state)}` : "/");
    soon();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input, textarea, select")) { event.preventDefault(); search.focus(); }
  });

  live.on("rows", (changes) => loaded ? change(changes) : waiting.push(changes));
  live.on("reset", reset);
  live.on("begin", () => load().catch(failed));
})();
