// <evidence-chart>: what one guard knew over time. Above, the estimate with its interval and the two
// margins; below, the evidence of harm and of safety (e-values) against what each needs.
// Its table has the columns time, estimate, low, high, harm, safe (natural logarithms of e).

import { Plot, shell } from "./plot.js";
import { readTable, say, watch } from "./table.js";

const odds = (log) => (log === null ? "–" : `${say(Number(Math.exp(Math.min(log, 60)).toPrecision(3)))} : 1`);
const UNITS = {
  ratio: (value) => (value === null ? "–" : `×${say(value)}`),
  share: (value) => (value === null ? "–" : `${say(value * 100)} %`),
};

// A place on the axis of odds, short enough for it.
function tick(split) {
  const value = Math.exp(split);
  if (value >= 1e4 || value < 1e-2) return `1e${Math.round(Math.log10(value))}`;
  return say(Number(value.toPrecision(1)));
}

// The first looks have intervals as wide as the world: the axis fits what is known later, and what
// reaches beyond it is cut.
function bounds(lines) {
  const later = lines.flatMap((line) => line.slice(Math.floor(line.length / 3)));
  const known = later.filter((value) => value !== null && Number.isFinite(value)).sort((a, b) => a - b);
  if (known.length === 0) return [0, 1];
  const low = known[Math.floor(known.length * 0.02)];
  const high = known[Math.ceil(known.length * 0.98) - 1];
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - pad, high + pad];
}

class EvidenceChart extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    const root = this.attachShadow({ mode: "open" });
    shell(root).then(() => {
      const host = root.querySelector(".plots");
      const name = this.getAttribute("label") ?? "Guard";
      this.effect = new Plot(host, {
        title: this.getAttribute("quantity") ?? "Ratio", label: `${name}: estimate with interval`, height: 150,
      });
      this.evidence = new Plot(host, {
        title: "Evidence (odds, logarithmic)", label: `${name}: evidence over time`, height: 130,
        tick,
      });
      this.observer = watch(this, () => this.draw());
      this.draw();
    });
  }

  number(name) {
    const text = this.getAttribute(name);
    return text === null || text === "" ? null : Number(text);
  }

  draw() {
    const table = this.querySelector("table");
    if (!table) return;
    const { columns, data } = readTable(table);
    const of = (role) => data[columns.findIndex((column) => column.role === role)] ?? data[0].map(() => null);
    const level = (name) => {
      const value = this.number(name);
      return value === null ? null : data[0].map(() => value);
    };
    const unit = UNITS[this.getAttribute("scale")] ?? say;
    this.drawEffect(data[0], of, level, unit);
    this.drawEvidence(data[0], of, level);
  }

  drawEffect(times, of, level, unit) {
    const series = [
      { name: "interval, high", color: "--series-1", width: 0.6, band: true, quiet: true, of: "estimate", points: false },
      { name: "interval, low", color: "--series-1", width: 0.6, quiet: true, of: "estimate", points: false },
      { name: "estimate", color: "--series-1", width: 2, say: unit },
    ];
    const lines = [of("high"), of("low"), of("estimate")];
    const add = (name, color, dash, values) => {
      if (!values) return;
      series.push({ name, color, dash, width: 1.5, say: unit, points: false });
      lines.push(values);
    };
    add("abort beyond", "--bad", [2, 3], level("margin-abort"));
    add("promote under", "--good", [7, 4], level("margin-promote"));
    this.effect.box.hidden = lines.slice(0, 3).every((line) => line.every((value) => value === null));
    this.effect.options.range = () => bounds(lines);
    this.effect.show(series, [times, ...lines]);
  }

  drawEvidence(times, of, level) {
    const series = [
      { name: "of harm", color: "--bad", width: 2, say: odds },
    ];
    const lines = [of("harm")];
    if (level("needed-safe")) {
      series.push({ name: "of safety", color: "--good", width: 2, say: odds, dash: [10, 3, 2, 3] });
      lines.push(of("safe"));
    }
    const add = (name, color, dash, values) => {
      if (!values) return;
      series.push({ name, color, dash, width: 1.5, say: odds, points: false });
      lines.push(values);
    };
    add(this.getAttribute("consequence") ?? "rolls back at", "--bad", [2, 3], level("needed-harm"));
    add("promotes at", "--good", [7, 4], level("needed-safe"));
    this.evidence.show(series, [times, ...lines]);
  }
}

customElements.define("evidence-chart", EvidenceChart);
