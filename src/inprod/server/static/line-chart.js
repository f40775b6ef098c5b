// <line-chart label="..."> <table> … </table> </line-chart>: one line per column of its table.
// A drag, or Shift+arrows and Enter, fires `range` with {start, end} in Unix seconds.

import { Plot, dash, shell } from "./plot.js";
import { readTable, watch } from "./table.js";

const COLORS = 8;

class LineChart extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    const root = this.attachShadow({ mode: "open" });
    shell(root).then(() => {
      this.plot = new Plot(root.querySelector(".plots"), {
        label: this.getAttribute("label") ?? "Chart",
        height: Number(this.getAttribute("height") ?? 260),
        onRange: this.hasAttribute("zooms") ? (start, end) => this.range(start, end) : null,
      });
      this.observer = watch(this, () => this.draw());
      this.draw();
    });
  }

  draw() {
    const table = this.querySelector("table");
    if (!table) return;
    const { columns, data } = readTable(table);
    const series = columns.slice(1).map((column, at) => ({
      name: column.name, color: `--series-${(at % COLORS) + 1}`, dash: dash(at),
      points: data[0].length < 3,
    }));
    this.plot.show(series, data);
  }

  range(start, end) {
    this.dispatchEvent(new CustomEvent("range", { bubbles: true, detail: { start, end } }));
  }
}

customElements.define("line-chart", LineChart);
