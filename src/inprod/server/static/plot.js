// One uPlot in a shadow root: colours from the page's tokens, a legend of buttons, a cursor that the
// keyboard moves and a status line that says what is under it, a selection by drag or by Shift+arrows.

import uPlot from "./vendor/uPlot.esm.js";
import { clock, say } from "./table.js";

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 2], [12, 4], [1, 3], [6, 2, 2, 2]];

export function shell(root) {
  const sheet = (name) => `<link rel="stylesheet" href="${new URL(name, import.meta.url)}">`;
  root.innerHTML = `${sheet("./vendor/uPlot.min.css")}${sheet("./chart.css")}<div class="plots"></div>
    <details><summary>Table</summary><div class="table" tabindex="0" role="region" aria-label="Table of the chart"><slot></slot></div></details>`;
  const sheets = [...root.querySelectorAll("link")];
  const loaded = sheets.map((link) => new Promise((done) => {
    link.addEventListener("load", done, { once: true });
    link.addEventListener("error", done, { once: true });
  }));
  return Promise.all(loaded);
}

// The places of a time axis in UTC: with seconds only where they differ, with the day beyond one.
function moments(splits) {
  const texts = splits.map((split) => new Date(split * 1000).toISOString());
  if (splits.at(-1) - splits[0] > 86_400) return texts.map((text) => text.slice(5, 16).replace("T", " "));
  const end = texts.some((text) => text.slice(17, 19) !== "00") ? 19 : 16;
  return texts.map((text) => text.slice(11, end));
}

export class Plot {
  // options: title, label, height, series: [{name, color, dash, width, band, points}], onRange
  constructor(host, options) {
    this.options = options;
    this.hidden = new Set();
    this.anchor = null;
    this.box = document.createElement("div");
    this.box.innerHTML = `<p class="title"></p><div class="plot" tabindex="0" role="group"></div>
      <ul class="legend" aria-label="Series"></ul><output aria-live="polite"></output><i class="probe"></i>`;
    host.append(this.box);
    this.title = this.box.querySelector(".title");
    this.frame = this.box.querySelector(".plot");
    this.legend = this.box.querySelector(".legend");
    this.output = this.box.querySelector("output");
    this.probe = this.box.querySelector(".probe");
    this.frame.addEventListener("keydown", (event) => this.key(event));
    this.resizer = new ResizeObserver(() => this.resize());
    this.resizer.observe(this.frame);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.onScheme = () => this.build();
    this.scheme.addEventListener("change", this.onScheme);
  }

  destroy() {
    this.resizer.disconnect();
    this.scheme.removeEventListener("change", this.onScheme);
    this.plot?.destroy();
    this.box.remove();
  }

  color(token) {
    this.probe.style.color = `var(${token})`;
    return getComputedStyle(this.probe).color;
  }

  show(series, data) {
    const shape = JSON.stringify(series);
    this.series = series;
    this.data = data;
    if (this.plot && shape === this.shape) {
      this.plot.setData(data);
    } else {
      this.shape = shape;
      this.build();
    }
    this.title.textContent = this.options.title ?? "";
    this.title.hidden = !this.options.title;
    this.frame.setAttribute("aria-label", this.describe());
  }

  describe() {
    const keys = this.options.onRange
      ? "Arrow keys move the cursor, Shift selects, Enter zooms."
      : "Arrow keys move the cursor.";
    return `${this.options.label}, ${this.data[0].length} points. ${keys}`;
  }

  build() {
    if (!this.series) return;
    this.plot?.destroy();
    const ink = this.color("--soft");
    const grid = { stroke: this.color("--line"), width: 1 };
    const axis = { stroke: ink, grid, ticks: grid, font: "11px system-ui, sans-serif" };
    const bands = [];
    this.series.forEach((one, at) => {
      if (one.band) bands.push({ series: [at + 1, at + 2], fill: this.wash(one.color) });
    });
    this.plot = new uPlot({
      width: Math.max(this.frame.clientWidth, 120),
      height: this.options.height,
      legend: { show: false },
      cursor: { drag: { x: Boolean(this.options.onRange), y: false, setScale: false }, points: { size: 7 } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
      scales: { x: { time: true }, y: { range: this.options.range ?? null } },
      bands,
      axes: [
        { ...axis, size: 28, space: 64, values: (_, splits) => moments(splits) },
        { ...axis, size: 52, values: (_, splits) => splits.map((split) => this.tick(split)) },
      ],
      series: [{}, ...this.series.map((one) => this.line(one))],
      hooks: { setCursor: [() => this.readout()], setSelect: [() => this.selected()] },
    }, this.data, this.frame);
    this.series.forEach((one, at) => {
      if (this.hidden.has(one.name)) this.plot.setSeries(at + 1, { show: false });
    });
    this.buttons();
  }

  tick(split) {
    return this.options.tick ? this.options.tick(split) : say(split);
  }

  wash(token) {
    const [red, green, blue] = this.color(token).match(/[\d.]+/g);
    return `rgba(${red}, ${green}, ${blue}, 0.18)`;
  }

  line(one) {
    const few = this.data[0].length < 40;
    return {
      label: one.name, stroke: this.color(one.color), width: one.width ?? 1.75,
      dash: one.dash ?? [], spanGaps: one.spanGaps ?? false,
      points: { show: one.points ?? (few && !one.dash?.length), size: 4 },
    };
  }

  buttons() {
    const shown = this.series.filter((one) => !one.quiet);
    this.legend.replaceChildren(...shown.map((one) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!this.hidden.has(one.name)));
      const dash = (one.dash ?? []).join(" ");
      button.innerHTML = `<svg viewBox="0 0 22 10" aria-hidden="true"><path d="M0 5h22" fill="none" stroke="${this.color(one.color)}" stroke-width="2.2" stroke-dasharray="${dash}"/></svg><span></span><span class="value"></span>`;
      button.children[1].textContent = one.name;
      button.addEventListener("click", () => this.toggle(one.name, button));
      item.append(button);
      return item;
    }));
    this.legend.hidden = shown.length === 0;
  }

  toggle(name, button) {
    if (this.hidden.has(name)) this.hidden.delete(name);
    else this.hidden.add(name);
    const show = !this.hidden.has(name);
    button.setAttribute("aria-pressed", String(show));
    this.series.forEach((one, at) => {
      if (one.name === name || one.of === name) this.plot.setSeries(at + 1, { show });
    });
  }

  readout() {
    const at = this.plot?.cursor.idx;
    const shown = this.series.map((one, index) => [one, index]).filter(([one]) => !one.quiet);
    shown.forEach(([one, index], place) => {
      const value = this.legend.children[place]?.querySelector(".value");
      const number = at === null || at === undefined ? null : this.data[index + 1][at];
      if (value) value.textContent = number === null ? "" : (one.say ?? say)(number);
    });
    if (at === null || at === undefined) return;
    if (this.spoken) this.output.textContent = this.sentence(at, shown);
  }

  sentence(at, shown) {
    const parts = shown
      .filter(([one]) => !this.hidden.has(one.name))
      .map(([one, index]) => `${one.name} ${(one.say ?? say)(this.data[index + 1][at])}`);
    return `${clock(this.data[0][at])}: ${parts.join(", ")}`;
  }

  key(event) {
    const last = this.data[0].length - 1;
    if (last < 0) return;
    const now = this.plot.cursor.idx ?? last;
    const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last };
    if (event.key in moves) {
      event.preventDefault();
      this.move(Math.min(last, Math.max(0, moves[event.key])), now, event.shiftKey);
    } else if (event.key === "Enter" && this.anchor !== null) {
      this.apply(this.anchor, this.plot.cursor.idx);
    } else if (event.key === "Escape") {
      this.clear();
    }
  }

  move(at, before, selecting) {
    this.anchor = selecting && this.options.onRange ? this.anchor ?? before : null;
    this.spoken = true;
    const left = this.plot.valToPos(this.data[0][at], "x");
    this.plot.setCursor({ left, top: this.plot.over.clientHeight / 2 });
    this.spoken = false;
    if (this.anchor === null) return;
    const start = this.plot.valToPos(this.data[0][this.anchor], "x");
    this.plot.setSelect({
      left: Math.min(start, left), width: Math.abs(left - start), top: 0, height: this.plot.over.clientHeight,
    }, false);
    const ends = [this.anchor, at].sort((a, b) => a - b).map((index) => clock(this.data[0][index]));
    this.output.textContent = `Selected ${ends[0]} to ${ends[1]}. Enter zooms, Escape clears.`;
  }

  clear() {
    this.anchor = null;
    this.plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.output.textContent = "";
  }

  apply(from, to) {
    const [start, end] = [from, to].map((at) => this.data[0][at]).sort((a, b) => a - b);
    if (end > start) this.options.onRange?.(start, end);
  }

  selected() {
    const { left, width } = this.plot.select;
    if (width < 4 || !this.options.onRange || this.anchor !== null) return;
    this.options.onRange(this.plot.posToVal(left, "x"), this.plot.posToVal(left + width, "x"));
  }

  resize() {
    const width = this.frame.clientWidth;
    if (this.plot && width > 0 && Math.abs(width - this.plot.width) > 1) {
      this.plot.setSize({ width, height: this.options.height });
    }
  }
}

export function dash(at) {
  return DASHES[at % DASHES.length];
}
