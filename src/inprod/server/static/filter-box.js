// <filter-box for="table-id">: hides the rows that do not contain every word typed, keeps the words in
// the URL, and says how many are left. Without JavaScript its form asks the server for the same.

class FilterBox extends HTMLElement {
  connectedCallback() {
    this.input = this.querySelector("input");
    this.output = this.querySelector("output");
    this.input.addEventListener("input", () => this.filter());
    this.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("htmx:after:swap", () => this.filter());
    this.filter();
  }

  filter() {
    const table = document.getElementById(this.getAttribute("for"));
    if (!table) return;
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      left += row.hidden ? 0 : 1;
    }
    this.output.textContent = words.length ? `${left} of ${table.tBodies[0].rows.length}` : "";
    const address = new URL(location.href);
    if (words.length) address.searchParams.set("q", this.input.value);
    else address.searchParams.delete("q");
    if (address.href !== location.href) history.replaceState(history.state, "", address);
  }
}

customElements.define("filter-box", FilterBox);
