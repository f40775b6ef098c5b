// Turns the server's change stream into events on <body> (`inprod:rollouts` ...), which htmx triggers
// on. Open only while the page is visible, and only where the page asks: <body data-live="rollouts">.

const topics = document.body.dataset.live;
let source = null;

function open() {
  if (source || document.hidden) return;
  source = new EventSource(`/live?topics=${encodeURIComponent(topics)}`);
  source.addEventListener("change", (event) => {
    document.body.dispatchEvent(new CustomEvent(`inprod:${event.data}`));
  });
}

function close() {
  source?.close();
  source = null;
}

// What is shown stays when a refresh fails, and the page says that it is old.
const stale = document.getElementById("stale");
for (const name of ["htmx:response:error", "htmx:error"]) {
  document.addEventListener(name, () => { stale.hidden = false; });
}
document.addEventListener("htmx:after:swap", (event) => {
  if (!event.detail?.ctx?.response || event.detail.ctx.response.raw.ok) stale.hidden = true;
});

if (topics) {
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}
