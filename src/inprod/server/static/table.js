// Reads a chart's numbers from the table beside it: the table is the data, and what stays without
// JavaScript. The first column is the time (Unix seconds in data-v); cells carry data-v too.

export function readTable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const columns = heads.map((cell) => ({
    name: cell.textContent.trim(),
    role: cell.dataset.role ?? "line",
  }));
  const data = columns.map(() => []);
  for (const row of table.tBodies[0]?.rows ?? []) {
    for (let at = 0; at < columns.length; at += 1) {
      const value = row.cells[at]?.dataset.v;
      data[at].push(value === undefined || value === "" ? null : Number(value));
    }
  }
  return { columns, data };
}

export function say(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return value.toLocaleString("en-US");
  if (size >= 1e7 || (size > 0 && size < 1e-3)) return value.toExponential(2);
  return value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
}

export function clock(seconds) {
  if (seconds === null || seconds === undefined) return "";
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}

// Watches the light DOM of an element and calls `redraw` once per frame after it changed.
export function watch(element, redraw) {
  let due = false;
  const observer = new MutationObserver(() => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      redraw();
    });
  });
  observer.observe(element, { childList: true, subtree: true, attributes: true, characterData: true });
  return observer;
}
