// Draws nodes as cells, thousands of them, on a canvas for each group. Knows nothing of where they come from.
"use strict";
const PHASES = ["active", "ready", "busy", "idle", "failed"];

class NodeMap {
  constructor(place, { point, open }) {
    this.place = place;
    this.point = point;
    this.open = open;
    this.groups = new Map();
    this.colours = {};
    new ResizeObserver(() => this.draw()).observe(place);
    addEventListener("theme", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Groups in their order: [{ name, nodes: [{ phase, faded, maintenance, late, ... }] }].
  show(groups) {
    const wanted = new Set(groups.map((group) => group.name));
    for (const [name, group] of this.groups) {
      if (!wanted.has(name)) { group.root.remove(); this.groups.delete(name); }
    }
    for (const { name, nodes } of groups) {
      let group = this.groups.get(name);
      if (!group) { group = this.added(name); this.groups.set(name, group); }
      group.nodes = nodes;
      group.title.textContent = name ? `${name}  ${nodes.length}` : "";
      group.title.hidden = !name;
      this.place.append(group.root);
    }
    this.draw();
  }

  added(name) {
    const root = document.createElement("div");
    const title = document.createElement("h3");
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `Nodes ${name ? `of ${name}` : "of the fleet"}: arrow keys move, Enter opens`);
    root.append(title, canvas);
    const group = { root, title, canvas, nodes: [], at: -1, size: 14, columns: 1 };
    const under = (event) => {
      const column = Math.floor(event.offsetX / group.size), row = Math.floor(event.offsetY / group.size);
      const at = row * group.columns + column;
      return column < group.columns && at < group.nodes.length ? at : -1;
    };
    canvas.addEventListener("pointermove", (event) => this.move(group, under(event)));
    canvas.addEventListener("pointerleave", () => this.move(group, -1));
    canvas.addEventListener("click", (event) => {
      const at = under(event);
      if (at >= 0) this.open(group.nodes[at], event);
    });
    canvas.addEventListener("keydown", (event) => this.key(group, event));
    canvas.addEventListener("focus", () => { if (group.at < 0 && group.nodes.length) this.move(group, 0); });
    return group;
  }

  key(group, event) {
    const last = group.nodes.length - 1;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -group.columns, ArrowDown: group.columns, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      this.move(group, Math.min(last, Math.max(0, group.at + moves[event.key])));
      event.preventDefault();
    } else if (event.key === "Enter" && group.nodes[group.at]) {
      this.open(group.nodes[group.at], event);
    }
  }

  move(group, at) {
    if (group.at === at) return;
    const before = group.at;
    group.at = at;
    const context = group.canvas.getContext("2d");
    for (const place of [before, at]) if (place >= 0 && place < group.nodes.length) this.cell(context, group, place);
    group.canvas.classList.toggle("pointing", at >= 0);
    this.point(at >= 0 ? group.nodes[at] : null);
  }

  // The colours are the style sheet's: read off elements that have them.
  learn() {
    const probe = document.createElement("span");
    this.place.append(probe);
    for (const name of [...PHASES, "ground", "line"]) {
      probe.className = `probe ${name}`;
      this.colours[name] = getComputedStyle(probe).color;
    }
    probe.remove();
  }

  draw() {
    this.learn();
    const width = this.place.clientWidth;
    if (!width) return;
    const count = [...this.groups.values()].reduce((sum, group) => sum + group.nodes.length, 0);
    const size = count <= 200 ? 22 : count <= 2000 ? 16 : 12;
    const scale = devicePixelRatio || 1;
    for (const group of this.groups.values()) {
      group.size = size;
      group.columns = Math.max(1, Math.floor(width / size));
      const height = Math.ceil(group.nodes.length / group.columns) * size;
      const { canvas } = group;
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.setAttribute("width", canvas.width);
      const context = canvas.getContext("2d");
      context.setTransform(scale, 0, 0, scale, 0, 0);
      for (let at = 0; at < group.nodes.length; at++) this.cell(context, group, at);
    }
  }

  // Each phase has a shape of its own, for who cannot tell the colours.
  cell(context, group, at) {
    const node = group.nodes[at], { size, columns } = group;
    const x = at % columns * size, y = Math.floor(at / columns) * size;
    const inner = size - 3, left = x + 1, top = y + 1;
    context.clearRect(x, y, size, size);
    context.globalAlpha = node.faded ? 0.15 : 1;
    context.fillStyle = context.strokeStyle = this.colours[node.phase];
    context.lineWidth = 1.5;
    switch (node.phase) {
      case "active":
        context.fillRect(left, top, inner, inner);
        break;
      case "ready":
        context.strokeRect(left + 0.75, top + 0.75, inner - 1.5, inner - 1.5);
        break;
      case "busy":
        context.strokeRect(left + 0.75, top + 0.75, inner - 1.5, inner - 1.5);
        context.fillRect(left, top + inner / 2, inner, inner / 2);
        break;
      case "idle":
        context.fillRect(left + inner * 0.3, top + inner * 0.3, inner * 0.4, inner * 0.4);
        break;
      default:
        context.lineWidth = 2;
        context.beginPath();
        context.moveTo(left + 1, top + 1);
        context.lineTo(left + inner - 1, top + inner - 1);
        context.moveTo(left + inner - 1, top + 1);
        context.lineTo(left + 1, top + inner - 1);
        context.stroke();
    }
    if (node.late || node.maintenance) {
      // A bite out of the corner: look at this one.
      context.fillStyle = node.late ? this.colours.failed : this.colours.line;
      context.fillRect(left + inner * 0.6, top, inner * 0.4, inner * 0.4);
    }
    context.globalAlpha = 1;
    if (at === group.at) {
      context.strokeStyle = this.colours.ground;
      context.lineWidth = 2;
      context.strokeRect(x + 1, y + 1, size - 2, size - 2);
    }
  }
}
