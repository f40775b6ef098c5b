// <query-bar>: makes the Explore form pleasant: rows appear as they are needed, Ctrl+Enter runs, "/"
// jumps to it, empty fields stay out of the URL, and a range chosen in the chart becomes the time.

class QueryBar extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    this.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.run();
    });
    this.addEventListener("input", () => this.grow());
    document.addEventListener("keydown", (event) => this.jump(event));
    document.addEventListener("range", (event) => this.zoom(event.detail));
  }

  // The URL of the query: the filled fields in order, rows with no column left out.
  address() {
    const parts = new URLSearchParams();
    const dropped = new Set();
    for (const row of this.form.querySelectorAll("[data-row]")) {
      const fields = [...row.querySelectorAll("input, select")];
      if (!row.dataset.row.split(" ").some((name) => row.querySelector(`[name="${name}"]`)?.value)) {
        fields.forEach((field) => dropped.add(field));
      }
    }
    for (const field of this.form.elements) {
      if (!field.name || dropped.has(field)) continue;
      const inRow = field.closest("[data-row]") !== null;
      if (field.value !== "" || inRow) parts.append(field.name, field.value);
    }
    return `${this.form.getAttribute("action")}?${parts}`;
  }

  run() {
    location.assign(this.address());
  }

  grow() {
    for (const group of this.form.querySelectorAll("[data-rows]")) {
      const rows = [...group.querySelectorAll("[data-row]")];
      const last = rows.at(-1);
      if (rows.length >= 20 || ![...last.querySelectorAll("input")].some((field) => field.value)) continue;
      const next = last.cloneNode(true);
      for (const field of next.querySelectorAll("input, select")) {
        if (field instanceof HTMLSelectElement) field.selectedIndex = 0;
        else field.value = "";
        field.setAttribute("aria-label", field.getAttribute("aria-label").replace(/\d+$/, String(rows.length + 1)));
      }
      group.append(next);
    }
  }

  jump(event) {
    if (event.key !== "/" || event.target.closest?.("input, textarea, select")) return;
    event.preventDefault();
    this.form.querySelector("input, select").focus();
  }

  zoom({ start, end }) {
    this.form.elements.namedItem("start").value = new Date(Math.floor(start) * 1000).toISOString().slice(0, 19);
    this.form.elements.namedItem("end").value = new Date(Math.ceil(end) * 1000).toISOString().slice(0, 19);
    this.form.elements.namedItem("range").value = "";
    this.run();
  }
}

customElements.define("query-bar", QueryBar);
